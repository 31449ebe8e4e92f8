"""Figures of runs over channels that lose payloads: tidy frames in, a figure out."""

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from wzfl.plots import in_order, label, look, style, unique_handles


def accuracy_by_loss(settings: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Final accuracy by share of payloads lost, a panel per title and its runs.

    Means over seeds; bars are the smallest and largest value.
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
            by_loss = runs[runs.compressor == name].groupby("loss").final_accuracy
            mean = by_loss.mean()
            axes.errorbar(
                *(100 * mean.index, mean),
                yerr=[mean - by_loss.min(), by_loss.max() - mean],
                **look(name),
                markersize=4,
                capsize=2,
                label=label(name),
            )
        axes.set_title(f"{title}\nmean and range, n = {runs.seed.nunique()} seeds", fontsize=9)
        axes.set_xlabel("payloads lost, %")
    grid[0][0].set_ylabel("final test accuracy")
    figure.legend(
        *unique_handles(*grid.flat), loc="outside right upper", fontsize=8, handlelength=3
    )
    return figure
