"""What all figures share: their look, what captions say of means and asterisks, and how they are saved."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no window, on any machine

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wzfl.reporting.compressor_styles import label
from wzfl.reporting.intervals import kind_of_interval

_CLIENT_MEMORY = "* keeps a vector of the model's size at every client"


def style() -> None:
    """One look for all figures."""
    plt.rcParams.update(
        {
            "figure.dpi": 120,
            "savefig.dpi": 200,
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.5,
            "lines.linewidth": 1.4,
            "legend.frameon": False,
            "pdf.fonttype": 42,
        }
    )


def means_of(seeds: int) -> str:
    """What a caption says of lines and bars."""
    if seeds == 1:
        return "one seed"
    return f"mean and {kind_of_interval(seeds)} over {int(seeds)} seeds"


def marked(table: pd.DataFrame) -> dict[str, str]:
    """The labels of a sweep's compressors; those that keep a vector at every client have an asterisk.

    Args:
        table: of methods or of runs.
    """
    floats = table.groupby("compressor").client_floats.max()
    return {str(name): label(str(name)) + "*" * int(count > 0) for name, count in floats.items()}


def explain_marks(figure: Figure, tables: Sequence[pd.DataFrame]) -> None:
    """Writes below a figure what the asterisks of `marked` are, if there are any."""
    if any((table.client_floats > 0).any() for table in tables):
        figure.supxlabel(_CLIENT_MEMORY, fontsize=7.5, x=0.99, ha="right")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes `<name>.png` and `<name>.pdf`; the same figure gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    figure.savefig(paths[0], metadata={"Software": None})
    figure.savefig(paths[1], metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)
    return paths


def unique_handles(*panels: Axes) -> tuple[list, list[str]]:
    """Handles and labels for one legend of several panels, each label once."""
    found: dict[str, object] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    return list(found.values()), list(found)
