"""Figures of what one condition does to accuracy: tidy frames in, a figure out."""

from collections.abc import Sequence
from math import ceil

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wzfl.reporting.compressor_styles import in_order, look
from wzfl.reporting.conditions import CONDITIONS, called, heading, values_of
from wzfl.reporting.end_labels import End, label_ends
from wzfl.reporting.figures import explain_marks, marked, means_of, style
from wzfl.reporting.intervals import means_by

_PANELS_PER_ROW = 3
_APART = 0.2  # between compressors at a value without an order, in distances between values


def accuracy_by_condition(settings: Sequence[tuple[str, str, pd.DataFrame]]) -> Figure:
    """Final accuracy by what was varied, a panel per title, condition and its runs.

    Means over seeds; bars are the intervals of `wzfl.reporting.intervals`; none where a run diverged. A
    compressor that ran under one value alone is a line across. Values without an order have no lines
    between them; there compressors stand side by side.
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
        axes.set_title(f"{heading(title, condition)}\n{means_of(runs.seed.nunique())}", fontsize=9)
    for axes in panels[len(settings) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("final test accuracy")
    explain_marks(figure, [runs for _, _, runs in settings])
    return figure


def _panel(axes: Axes, condition: str, runs: pd.DataFrame) -> None:
    values, labels, ends = values_of(runs, condition), marked(runs), []
    unordered = {"linestyle": "none", "markersize": 6} if isinstance(values[0], str) else {}
    varied = runs.groupby("compressor")[condition].nunique().gt(1)
    beside = in_order(varied.index[varied])
    for name in in_order(runs.compressor):
        own = runs[runs.compressor == name]
        diverged = own[condition].isin(own[condition][own.final_accuracy.isna()])
        means = means_by(own[~diverged], condition, "final_accuracy")
        if means.empty:
            continue
        places = [float(values.index(value)) for value in means.index]
        if unordered and varied[name]:
            places = [place + _APART * _from_middle(name, beside) for place in places]
        if varied[name]:
            axes.errorbar(
                places,
                means["mean"],
                yerr=[means["mean"] - means.low, means.high - means["mean"]],
                **{"markersize": 4} | look(name) | unordered,
                capsize=2,
            )
        else:
            axes.axhline(means["mean"].iloc[0], **look(name) | {"marker": ""}, linewidth=0.9)
            places = [float(len(values))]
        ends.append(End(labels[name], look(name)["color"], places[-1], means["mean"].iloc[-1]))
    names = [called(value) for value in values]
    axes.set_xticks(range(len(values)), names, fontsize=8 if unordered else None)
    axes.set_xlabel(CONDITIONS[condition])
    label_ends(axes, ends)


def _from_middle(name: str, names: Sequence[str]) -> float:
    """The place of a name among others, from the middle of them."""
    return names.index(name) - (len(names) - 1) / 2
