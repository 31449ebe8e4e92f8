"""Figures of errors against bits on vectors: a tidy frame in, a figure out."""

from math import inf, log10

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wzfl.reporting.compressor_styles import in_order, label, look
from wzfl.reporting.end_labels import End, label_ends
from wzfl.reporting.figures import style
from wzfl.theory import wyner_ziv_limit

_MOST_BITS = 8.5  # beyond it are casts, which would squeeze the rest into a corner
_SETTING = ["dim", "clients", "snr_db"]
_GREY = "0.3"
_HEADINGS = {
    "wyner_ziv": "Wyner-Ziv: decoder has side\ninformation",
    "shannon": "Shannon: decoder has none",
}
_ROOM = 1.6  # factor between the extreme values and the ends of a log axis
# Below their limit by more than this, compressors leave the figure: the vectors are sparse.
_DEEPEST_DB = -20.0


def rate_distortion(rows: pd.DataFrame) -> Figure:
    """Error, and distance to the limit, against measured bits per coordinate, of one source.

    A row of panels per dim, clients and SNR; means over seeds. Compressors without an error, and those
    above 8.5 bits, are not shown.
    """
    style()
    shown = rows[(rows.bits_per_coordinate <= _MOST_BITS) & (rows.nmse > 0)]
    settings = [setting for _, setting in shown.groupby(_SETTING, dropna=False)]
    height = max(1, len(settings))
    figure, grid = plt.subplots(
        height, 2, figsize=(11.6, 4.6 * height + 0.5), squeeze=False, layout="constrained"
    )
    for (left, right), setting in zip(grid, settings, strict=False):
        for axes, column in ((left, "nmse"), (right, "gap_db")):
            _lines(axes, setting, column)
            axes.set_xlabel("measured bits per coordinate")
            axes.set_xlim(0, _most_bits(setting))
        left.set_title(_title(setting), fontsize=9, loc="left")
        left.set_ylabel("|estimate − update|² / |update|²")
        _limits(left, setting)
        right.set_title("from the Gaussian limit of each compressor", fontsize=9, loc="left")
        right.set_ylabel("error over the limit of as many bits, in dB")
        right.axhline(0, color=_GREY, linewidth=0.9)
        right.set_ylim(bottom=max(right.get_ylim()[0], _DEEPEST_DB))
    figure.legend(handles=_legend(shown), loc="outside right upper", fontsize=8, handlelength=3)
    figure.supxlabel(_caption(str(rows.source.iloc[0])), fontsize=7.5, x=0.01, ha="left")
    return figure


def _lines(axes: Axes, setting: pd.DataFrame, column: str) -> None:
    for name in in_order(setting.compressor):
        own = setting[setting.compressor == name]
        line = own.groupby("bitrate")[["bits_per_coordinate", column]].mean()
        axes.plot(line.bits_per_coordinate, line[column], markersize=4, **look(name))


def _limits(axes: Axes, setting: pd.DataFrame) -> None:
    """The limits, and what costs no bits, labelled beside the axes, where no curve runs over their names."""
    most = _most_bits(setting)
    references = [(1.0, "Shannon limit", "nothing sent")]
    if (setting.limit == "wyner_ziv").any():
        error = float(setting.side_information_error.mean())
        if error > 0:  # else there is nothing left to send, and a log axis has no place for it
            references.append((error, "Wyner-Ziv limit", "side information alone"))
    ends = [wyner_ziv_limit(most, variance) for variance, _, _ in references]
    axes.set_yscale("log")
    lowest = max(setting.nmse.min(), min(ends) * 10 ** (_DEEPEST_DB / 10))
    axes.set_ylim(min(lowest, *ends) / _ROOM, max(setting.nmse.max(), 1) * _ROOM)
    labels = []
    for (variance, limit, free), end in zip(references, ends, strict=True):
        axes.plot([0, most], [variance, end], color=_GREY, linewidth=0.9)  # straight on a log axis
        axes.axhline(variance, color=_GREY, linewidth=0.9, linestyle=(0, (1, 2)))
        labels += [End(free, _GREY, most, variance), End(limit, _GREY, most, end)]
    label_ends(axes, labels)


def _most_bits(setting: pd.DataFrame) -> float:
    """Where the axis ends."""
    return float(setting.bits_per_coordinate.max()) * 1.04


def _legend(shown: pd.DataFrame) -> list[Line2D]:
    """A line per compressor, under the limit that its distance is taken from."""
    handles = []
    for limit, heading in _HEADINGS.items():
        names = in_order(shown.compressor[shown.limit == limit])
        if names:
            handles.append(Line2D([], [], linestyle="none", label=heading))
        handles += [Line2D([], [], markersize=4, label=label(name), **look(name)) for name in names]
    return handles


def _title(setting: pd.DataFrame) -> str:
    first = setting.iloc[0]
    draws = setting.groupby(["compressor", "bitrate"]).draws.sum()
    vectors = " to ".join(
        f"{count * first.clients}" for count in sorted({draws.min(), draws.max()})
    )
    error = setting.side_information_error.mean()
    ratio = inf if error == 0 else -10 * log10(error)
    return (
        f"{str(first.source).replace('_', ' ')}: {int(first.dim)} coordinates, mean of {vectors}"
        f" vectors,\nside information at {ratio:.1f} dB"
    )


def _caption(source: str) -> str:
    text = (
        "Bits are those of whole payloads. Decoders with side information are told the true RMS of"
        " update − side information (an oracle's scale)."
    )
    if source == "gaussian":
        return text
    return (
        f"{text}\nThe limits are those of Gaussian vectors of the same energy, no lower bounds for"
        " these vectors."
    )
