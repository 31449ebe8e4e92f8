"""Figures of accuracy and loss against bits: tidy frames in, a figure out."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from wzfl.reporting.compressor_styles import MARKERS, in_order, look
from wzfl.reporting.end_labels import End, label_ends
from wzfl.reporting.figures import explain_marks, marked, means_of, style
from wzfl.reporting.intervals import BASELINE, means_by

_FINAL = {
    "accuracy": "final test accuracy",
    "excess_loss": "final training loss above float32's\n(▼: not above it)",
}
_PANELS_PER_ROW = 5


def against_bits(
    sweeps: Sequence[tuple[str, pd.DataFrame, pd.DataFrame]], column: str, ylabel: str
) -> Figure:
    """`column` against uplink bits per client; a row of panels per sweep.

    Each sweep is a title, its rounds, and its methods (of `wzfl.reporting.summary`). The first panel compares
    compressors, each at the bitrate that reaches the target accuracy with the fewest bits (losses: at its
    lowest bitrate); each further one shows all bitrates of one compressor. Lines are means over seeds,
    bands the intervals of `wzfl.reporting.intervals`.
    """
    style()
    panels = [1 + len(_swept(methods)) for _, _, methods in sweeps]
    columns = ceil(max(panels) / ceil(max(panels) / _PANELS_PER_ROW))  # rows as full as can be
    rows_of = [ceil(count / columns) for count in panels]
    figure, grid = plt.subplots(
        sum(rows_of),
        columns,
        figsize=(3.1 * columns + 0.6, 3.4 * sum(rows_of)),
        squeeze=False,
        layout="constrained",
    )
    start = 0
    for (title, rounds, methods), rows in zip(sweeps, rows_of, strict=True):
        axes_of_sweep = grid[start : start + rows].reshape(-1)
        _sweep_panels(list(axes_of_sweep), title, rounds, methods, column)
        for axes in grid[start : start + rows, 0]:
            axes.set_ylabel(ylabel)
        start += rows
    explain_marks(figure, [methods for _, _, methods in sweeps])
    return figure


def _sweep_panels(
    panels: Sequence[Axes], title: str, rounds: pd.DataFrame, methods: pd.DataFrame, column: str
) -> None:
    """All compressors in the first panel, then one for each that was swept over bitrates."""
    labels, names = marked(methods), _swept(methods)
    seeds = int(methods.seeds.max())
    _focus(panels[0], rounds, column)
    _overview(panels[0], rounds, _representatives(methods, column), labels, column)
    chosen = "best" if column == "test_accuracy" else "lowest"
    panels[0].set_title(f"{title}\neach at its {chosen} bitrate\n{means_of(seeds)}", fontsize=9)
    for axes, name in zip(panels[1:], names, strict=False):
        axes.sharey(panels[0])
        _all_bitrates(axes, rounds, name, column)
        axes.set_title(f"{labels[name]}\nby bits per coordinate", fontsize=9)
    for axes in panels[1 + len(names) :]:
        axes.set_visible(False)
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlabel("uplink bits per client")


def by_bitrate(sweeps: Sequence[tuple[str, pd.DataFrame, pd.DataFrame]], column: str) -> Figure:
    """Final accuracy or excess loss, and bits to target, against measured bits per coordinate."""
    style()
    figure, grid = plt.subplots(
        len(sweeps), 2, figsize=(11, 3.0 * len(sweeps)), squeeze=False, layout="constrained"
    )
    for (left, right), (title, _, methods) in zip(grid, sweeps, strict=True):
        for name in in_order(methods.compressor):
            group = methods[methods.compressor == name]
            _final(left, name, group, column)
            _to_target(right, name, group)
        left.set_ylabel(_FINAL[column])
        left.set_title(f"{title}\n{means_of(methods.seeds.max())}", fontsize=9)
        right.set_ylabel("uplink bits per client to target")
        right.set_title("to float32's final accuracy less a point, or its worst seed's", fontsize=9)
        if methods.bits_to_target.notna().any():  # a log axis needs something to show
            right.set_yscale("log")
        _limit_final(left, methods, column)
        for axes, shown in ((left, column), (right, "bits_to_target")):
            _bitrate_axis(axes, methods)
            label_ends(axes, _ends(methods, shown))
    explain_marks(figure, [methods for _, _, methods in sweeps])
    return figure


def _swept(methods: pd.DataFrame) -> list[str]:
    """The compressors of a sweep with more than one bitrate."""
    counts = methods.groupby("compressor").bitrate.nunique()
    return in_order(counts[counts > 1].index)


def _representatives(methods: pd.DataFrame, column: str) -> list[tuple[str, float]]:
    """Per compressor the bitrate to show beside the others."""
    chosen = []
    for name, group in methods.groupby("compressor"):
        reaching = group.dropna(subset="bits_to_target")
        if column == "test_accuracy" and len(reaching):
            best = reaching.bits_to_target.argmin()
            chosen.append((str(name), float(reaching.bitrate.iloc[best])))
        elif group.accuracy.notna().any():
            accurate = column == "test_accuracy"
            best = group.accuracy.argmax() if accurate else group.bitrate.argmin()
            chosen.append((str(name), float(group.bitrate.iloc[best])))
    return chosen


def _curve(
    rounds: pd.DataFrame, name: str, bitrate: float, column: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean bits, and the mean over seeds with its interval, at each evaluated round."""
    chosen = rounds[(rounds.compressor == name) & (rounds.bitrate == bitrate)]
    chosen = chosen.dropna(subset=column)
    bits = chosen.groupby("round").uplink_per_client.mean().to_numpy()
    means = means_by(chosen, "round", column)
    return bits, means["mean"].to_numpy(), means.low.to_numpy(), means.high.to_numpy()


def _overview(
    axes: Axes,
    rounds: pd.DataFrame,
    shown: Sequence[tuple[str, float]],
    labels: dict[str, str],
    column: str,
) -> None:
    """Lines and their legend, which says of a line that is wholly below the axes that it is."""
    for name, bitrate in shown:
        bits, mean, low, high = _curve(rounds, name, bitrate, column)
        text = labels[name] if name in (BASELINE, "signsgd") else f"{labels[name]}, {bitrate:g} bit"
        if mean.max() < axes.get_ylim()[0]:
            text += " (below the axis)"
        axes.plot(
            bits, mean, **look(name), markersize=3.5, markevery=max(1, len(bits) // 7), label=text
        )
        axes.fill_between(bits, low, high, color=look(name)["color"], alpha=0.15, linewidth=0)
    # Below the axis: more than a few lines leave no free corner.
    axes.legend(
        fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.19), ncols=2, handlelength=2.6
    )


def _all_bitrates(axes: Axes, rounds: pd.DataFrame, name: str, column: str) -> None:
    colour = look(name)["color"]
    bits, mean, _, _ = _curve(rounds, BASELINE, 32.0, column)
    axes.plot(bits, mean, color="black", linewidth=0.9)
    bitrates = sorted(rounds.loc[rounds.compressor == name, "bitrate"].unique())
    for place, bitrate in enumerate(bitrates):
        share = place / max(1, len(bitrates) - 1)
        bits, mean, low, high = _curve(rounds, name, bitrate, column)
        if not len(bits):
            continue
        shade = tuple((1 - 0.6 * share) * np.array(to_rgb(colour)))
        axes.plot(
            bits, mean, color=shade, linewidth=1.1, marker=MARKERS[place % len(MARKERS)],
            markersize=3, markevery=max(1, len(bits) // 6),
        )  # fmt: skip
        axes.fill_between(bits, low, high, color=shade, alpha=0.15, linewidth=0)
        falls = mean[0] > mean[-1]
        top = 0 if falls else -1  # where curves are apart
        above = 11 if falls and place % 2 else 4  # points; curves begin at one height
        axes.annotate(
            f"{bitrate:g}", (bits[top], mean[top]), (0, above), textcoords="offset points",
            color=shade, fontsize=7, ha="center",
        )  # fmt: skip


def _focus(axes: Axes, rounds: pd.DataFrame, column: str) -> None:
    """Accuracy from where it says something; a loss no higher than where training began."""
    baseline = rounds.loc[rounds.compressor == BASELINE, column].dropna()
    if baseline.empty:
        return
    if column == "test_accuracy":
        top = float(rounds[column].max())  # of any seed, so that labels of the best stay inside
        axes.set_ylim(max(0.0, top - 0.45), min(1.0, top + 0.03))
    else:
        axes.set_ylim(0.97 * float(baseline.min()), 1.3 * float(baseline.max()))
        axes.set_yscale("log")


def _ends(methods: pd.DataFrame, column: str) -> list[End]:
    """Each compressor's value at its highest bitrate that has one to draw."""
    labels, shown = marked(methods), methods.dropna(subset=column).sort_values("bitrate")
    if column == "excess_loss":
        shown = shown[shown[column] > 0]  # the others, float32 too, have no place on a log axis
    last = shown.groupby("compressor")[["measured_bitrate", column]].last()
    return [
        End(labels[name], look(name)["color"], *map(float, last.loc[name]))
        for name in in_order(last.index)
    ]


def _final(axes: Axes, name: str, group: pd.DataFrame, column: str) -> None:
    colour = look(name)["color"]
    if name == BASELINE:
        if column == "accuracy":
            axes.axhline(group[column].iloc[0], color=colour, linewidth=0.9)
        return
    values, floor = group[column], group[column] <= 0
    if column == "excess_loss":
        values = values.mask(floor)
        axes.plot(
            group.measured_bitrate[floor], np.full(floor.sum(), 0.03), marker="v", markersize=5,
            color=colour, linestyle="", transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    errors = np.abs(group[[f"{column}_low", f"{column}_high"]].to_numpy().T - values.to_numpy())
    axes.errorbar(
        group.measured_bitrate, values, yerr=errors, **look(name), markersize=4, capsize=2
    )


def _to_target(axes: Axes, name: str, group: pd.DataFrame) -> None:
    if name == BASELINE:
        axes.axhline(group.bits_to_target.iloc[0], color=look(name)["color"], linewidth=0.9)
        return
    bounds = group[["bits_to_target_low", "bits_to_target_high"]].to_numpy().T
    axes.errorbar(
        group.measured_bitrate,
        group.bits_to_target,
        yerr=np.abs(bounds - group.bits_to_target.values),
        **look(name),
        markersize=4,
        capsize=2,
    )


def _bitrate_axis(axes: Axes, methods: pd.DataFrame) -> None:
    """The same for all panels, with a tick at each configured bitrate."""
    swept = methods[methods.compressor.isin(_swept(methods))]
    bitrates = sorted(swept.bitrate.unique())
    axes.set_xscale("log")
    axes.set_xlabel("measured bits per coordinate")
    if bitrates:
        axes.set_xticks(bitrates, [f"{bitrate:g}" for bitrate in bitrates])
        axes.set_xticks([], minor=True)
        axes.set_xlim(bitrates[0] / 1.3, swept.measured_bitrate.max() * 1.3)


def _limit_final(axes: Axes, methods: pd.DataFrame, column: str) -> None:
    """Keeps a method that failed from hiding the differences between the others."""
    baseline = float(methods.loc[methods.compressor == BASELINE, column].iloc[0])
    values = methods[column].dropna()
    if column == "accuracy":
        shown = methods[methods[column] >= baseline - 0.2]
        axes.set_ylim(shown[f"{column}_low"].min() - 0.01, shown[f"{column}_high"].max() + 0.01)
    elif (values > 0).any():  # a loss below float32's has no place on a log axis
        axes.set_yscale("log")
        axes.set_ylim(values[values > 0].min() / 2, min(float(values.max()), 1.0) * 2)
