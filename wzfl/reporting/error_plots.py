"""Figures of the errors of updates while training: tidy frames in, a figure out."""

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wzfl.reporting.compressor_styles import in_order, label, look
from wzfl.reporting.figures import means_of, style, unique_handles
from wzfl.reporting.intervals import BASELINE, means_by

_NAMES = {"nmse": "estimate", "side_information_error": "side information"}


def errors_by_round(settings: Sequence[tuple[str, pd.DataFrame]], column: str) -> Figure:
    """Relative squared errors by round; a column of panels per setting, a row per bitrate.

    Each setting is a title and its rounds, of `wzfl.reporting.summary`; `column` is "nmse", of estimates, or
    "side_information_error", of what the server expected. Lines are means over clients and seeds, bands
    the intervals of `wzfl.reporting.intervals`.
    """
    style()
    shown = [(title, rounds[rounds.compressor != BASELINE]) for title, rounds in settings]
    bitrates = sorted({bitrate for _, rounds in shown for bitrate in rounds.bitrate.unique()})
    figure, grid = plt.subplots(
        *(len(bitrates), len(shown)),
        figsize=(3.1 * len(shown) + 1.8, 2.9 * len(bitrates) + 0.3),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for row, bitrate in zip(grid, bitrates, strict=True):
        for axes, (title, rounds) in zip(row, shown, strict=True):
            here = rounds[rounds.bitrate == bitrate]
            _lines(axes, here, column)
            seeds = rounds.seed.nunique()
            axes.set_title(f"{title}, {bitrate:g} bits\n{means_of(seeds)}", fontsize=8)
            if (here[column] > 0).any():
                axes.set_yscale("log")
        row[0].set_ylabel(f"|{_NAMES[column]} − update|² / |update|²")
    for axes in grid[-1]:
        axes.set_xlabel("round")
    figure.legend(
        *unique_handles(*grid.flat), loc="outside right upper", fontsize=8, handlelength=3
    )
    return figure


def _lines(axes: Axes, rounds: pd.DataFrame, column: str) -> None:
    for name in in_order(rounds.compressor):
        errors = means_by(rounds[rounds.compressor == name], "round", column)
        axes.plot(
            *(errors.index, errors["mean"]), **look(name), label=label(name), markersize=3.5,
            markevery=max(1, len(errors) // 6),
        )  # fmt: skip
        axes.fill_between(
            *(errors.index, errors.low, errors.high),
            color=look(name)["color"],
            alpha=0.15,
            linewidth=0,
        )
