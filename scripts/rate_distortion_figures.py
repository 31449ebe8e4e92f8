"""Figures and text of results/rate_distortion.csv."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from sweep_progress import SweepCallback

from wzfl.rate_distortion import load_table
from wzfl.reporting.figures import save
from wzfl.reporting.rate_distortion_plots import rate_distortion
from wzfl.reporting.rate_distortion_report import rate_distortion_report
from wzfl.reporting.report import figures_section

TABLE = "rate_distortion.csv"


class DrawAfterSweep(SweepCallback):
    """Draws once, in the process that started the sweep."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        draw_rate_distortion(Path(config.results_dir))


def draw_rate_distortion(results_dir: Path) -> Path | None:
    """Writes rate_distortion.md, which it returns, and its figures; None where nothing was measured."""
    path = results_dir / TABLE
    if not path.is_file():
        return None
    table, names = load_table(path), []
    for source, rows in table.groupby("source"):
        names.append(f"rate_distortion_{source}")
        save(rate_distortion(rows), results_dir / "figures", names[-1])
    report = path.with_suffix(".md")
    report.write_text(rate_distortion_report(table) + figures_section(names))
    return report
