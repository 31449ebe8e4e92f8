"""Names of lines at their ends, in place of a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

_GAP = 0.065  # between labels, in heights of the axes
_LEADER = 0.06  # from the axes to the labels, in widths of it
_LEADER_LINE = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "relpos": (0, 0.5)}
_MARKER = 4  # points around an end inside the axes, where its marker is


@dataclass(frozen=True)
class End:
    """What a line is called, and where it ends.

    Attributes:
        text, colour: of its label.
        x, y: in data coordinates; a line across the axes ends where these do, whatever its `x`.
    """

    text: str
    colour: str
    x: float
    y: float


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Writes labels right of the axes, at the height of each end or as near to it as the others leave.

    A line leads to the end. The label of one above or below the axes has its value and an arrow instead. To
    be called when limits and scale of the axes are what they will be.
    """
    to_shares = axes.transData + axes.transAxes.inverted()
    shares = [to_shares.transform((end.x, end.y)).tolist() for end in ends]
    places = spread([height for _, height in shares], _GAP)
    for end, (width, height), place in zip(ends, shares, places, strict=True):
        inside = 0 <= height <= 1
        line = _LEADER_LINE | {"color": end.colour, "shrinkB": _MARKER * int(width < 1)}
        axes.annotate(
            end.text if inside else f"{end.text} ({end.y:.2g}) {'↑' if height > 1 else '↓'}",
            xy=(min(width, 1), height),
            xytext=(1 + _LEADER, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=end.colour,
            fontsize=7.5,
            va="center",
            annotation_clip=False,
            arrowprops=line if inside else None,
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, moved up and down so that neighbours are `gap` apart and none is far outside 0 to 1."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    places = [min(max(heights[place], 0.0), 1.0) for place in order]
    for upper in range(1, len(places)):
        places[upper] = max(places[upper], places[upper - 1] + gap)
    top = max(1.0, (len(places) - 1) * gap)
    for lower in reversed(range(len(places))):
        places[lower] = min(places[lower], top)
        top = places[lower] - gap
    found = dict(zip(order, places, strict=True))
    return [found[place] for place in range(len(heights))]
