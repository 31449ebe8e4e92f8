"""Figures of what one condition does to accuracy: tidy frames in, a figure out."""

from collections.abc import Sequence
from math import ceil

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wzfl.conditions import CONDITIONS, called, values_of
from wzfl.end_labels import End, label_ends
from wzfl.intervals import means_by
from wzfl.plots import in_order, label, look, means_of, style

_PANELS_PER_ROW = 3


def accuracy_by_condition(settings: Sequence[tuple[str, str, pd.DataFrame]]) -> Figure:
    """Final accuracy by what was varied, a panel per title, condition and its runs.

    Means over seeds; bars are the intervals of `wzfl.intervals`; none where a run diverged. A compressor
    that ran under one value alone is a line across.
    """
    style()
    columns = min(len(settings), _PANELS_PER_ROW)
    rows = ceil(len(settings) / columns)
    figure, grid = plt.subplots(
        *(rows, columns),
        figsize=(4.6 * columns, 3.3 * rows),
        squeeze=False,
        layout="constrained",
    )
    panels = list(grid.flat)
    for axes, (title, condition, runs) in zip(panels, settings, strict=False):
        _panel(axes, condition, runs)
        axes.set_title(f"{title}\n{means_of(runs.seed.nunique())}", fontsize=9)
    for axes in panels[len(settings) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("final test accuracy")
    return figure


def _panel(axes: Axes, condition: str, runs: pd.DataFrame) -> None:
    values, ends = values_of(runs, condition), []
    unordered = {"linestyle": "none"} if isinstance(values[0], str) else {}
    for name in in_order(runs.compressor):
        own = runs[runs.compressor == name]
        diverged = own[condition].isin(own[condition][own.final_accuracy.isna()])
        means = means_by(own[~diverged], condition, "final_accuracy")
        if means.empty:
            continue
        last = means["mean"].iloc[-1]
        ends.append(End(label(name), look(name)["color"], values.index(means.index[-1]), last))
        if len(values_of(own, condition)) == 1:
            axes.axhline(means["mean"].iloc[0], **look(name) | {"marker": ""}, linewidth=0.9)
            continue
        axes.errorbar(
            [values.index(value) for value in means.index],
            means["mean"],
            yerr=[means["mean"] - means.low, means.high - means["mean"]],
            **look(name) | unordered,
            markersize=4,
            capsize=2,
        )
    axes.set_xticks(range(len(values)), [called(value) for value in values])
    axes.set_xlabel(CONDITIONS[condition])
    label_ends(axes, ends)
