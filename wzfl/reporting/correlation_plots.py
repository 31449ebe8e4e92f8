"""Figures of side information over rounds: tidy frames in, a figure out."""

from collections.abc import Mapping
from itertools import cycle

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from wzfl.reporting.figures import means_of, style, unique_handles
from wzfl.reporting.intervals import means_by

# Okabe & Ito's colours, and dashes, by policy.
_STYLES: dict[str, tuple[str, str]] = {
    "last": ("#D55E00", "-"),
    "measured": ("#D55E00", ":"),
    "oracle": ("#000000", ":"),
    "fixed": ("#CC79A7", "-"),
    "ema": ("#E69F00", "--"),
    "mean": ("#0072B2", "-"),
    "peers": ("#56B4E9", "--"),
    "linear": ("#009E73", "-."),
}
_OTHER, _DASHES = "#666666", ("-", "--", "-.", ":")  # of policies that have none above
_ROWS = {
    "side_information_error": "|side information − update|²\n/ |update|²",
    "cosine": "cosine of side information\nand update",
    "scale_ratio": "scale / RMS of\nside information − update",
}
_NEUTRAL = {"side_information_error": 1.0, "scale_ratio": 1.0}  # ratios, on log axes


def history_by_policy(settings: Mapping[str, pd.DataFrame]) -> Figure:
    """Error and cosine of side information, and scales against true ones, by round.

    A column of panels per title and its frame of `wzfl.reporting.correlation.rounds_of`. Lines are means over
    clients and seeds, bands the intervals of the clients' means over seeds.
    """
    style()
    figure, grid = plt.subplots(
        *(len(_ROWS), len(settings)),
        figsize=(3.1 * len(settings) + 1.6, 2.6 * len(_ROWS) + 0.3),
        squeeze=False,
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    for row, (column, ylabel) in zip(grid, _ROWS.items(), strict=True):
        for axes, history in zip(row, settings.values(), strict=True):
            _lines(axes, history, column)
            if column in _NEUTRAL:
                axes.axhline(_NEUTRAL[column], color="0.3", linewidth=0.8)
                axes.set_yscale("log")
        row[0].set_ylabel(ylabel)
    scales = grid[list(_ROWS).index("scale_ratio"), 0].yaxis  # within a decade or so
    scales.set_major_locator(LogLocator(subs=(1, 2, 5)))
    scales.set_major_formatter("{x:g}")
    scales.set_minor_formatter(NullFormatter())
    for axes, (title, history) in zip(grid[0], settings.items(), strict=True):
        axes.set_title(f"{title}\n{means_of(history.seed.nunique())}", fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("round")
    figure.legend(
        *unique_handles(*grid.flat), loc="outside right upper", fontsize=8, handlelength=3
    )
    return figure


def _lines(axes: Axes, history: pd.DataFrame, column: str) -> None:
    policies = set(history.policy)
    others = zip(sorted(policies - _STYLES.keys()), cycle(_DASHES), strict=False)
    styles = _STYLES | {policy: (_OTHER, dash) for policy, dash in others}
    for policy, (colour, dash) in styles.items():
        if policy not in policies:
            continue
        own = means_by(history[history.policy == policy], "round", column)
        axes.plot(own.index, own["mean"], color=colour, linestyle=dash, label=policy)
        axes.fill_between(own.index, own.low, own.high, color=colour, alpha=0.15, linewidth=0)
