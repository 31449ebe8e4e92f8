"""Figures of runs over channels that lose payloads: tidy frames in, a figure out."""

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from wzfl.intervals import means_by
from wzfl.plots import in_order, label, look, means_of, style, unique_handles


def accuracy_by_loss(settings: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Final accuracy by share of payloads lost, a panel per title and its runs.

    Means over seeds; bars are 95 % bootstrap intervals.
    """
    style()
    figure, grid = plt.subplots(
        *(1, len(settings)),
        figsize=(4.2 * len(settings) + 1.8, 3.4),
        squeeze=False,
        layout="constrained",
    )
    for axes, (title, runs) in zip(grid[0], settings, strict=True):
        for name in in_order(runs.compressor):
            by_loss = means_by(runs[runs.compressor == name], "loss", "final_accuracy")
            mean = by_loss["mean"]
            axes.errorbar(
                *(100 * by_loss.index, mean),
                yerr=[mean - by_loss.low, by_loss.high - mean],
                **look(name),
                markersize=4,
                capsize=2,
                label=label(name),
            )
        axes.set_title(f"{title}\n{means_of(runs.seed.nunique())}", fontsize=9)
        axes.set_xlabel("payloads lost, %")
    grid[0][0].set_ylabel("final test accuracy")
    figure.legend(
        *unique_handles(*grid.flat), loc="outside right upper", fontsize=8, handlelength=3
    )
    return figure
