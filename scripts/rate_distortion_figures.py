"""Figures of results/rate_distortion.csv, one per source."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from wzfl.plots import save
from wzfl.rate_distortion import load_table
from wzfl.rate_distortion_plots import rate_distortion

TABLE = "rate_distortion.csv"


class DrawAfterSweep(Callback):
    """Draws once, in the process that started the sweep."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        draw_rate_distortion(Path(config.results_dir))


def draw_rate_distortion(results_dir: Path) -> list[str]:
    """Draws the figures into figures/ and returns their names; none where nothing was measured."""
    path = results_dir / TABLE
    if not path.is_file():
        return []
    names = []
    for source, rows in load_table(path).groupby("source"):
        names.append(f"rate_distortion_{source}")
        save(rate_distortion(rows), results_dir / "figures", names[-1])
    return names
