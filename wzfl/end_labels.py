"""Names of lines at their ends, in place of a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

_GAP = 0.065  # between labels, in heights of the axes
_LEADER = 0.06  # from the axes to the labels, in widths of it
_LEADER_LINE = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}


@dataclass(frozen=True)
class End:
    """What a line is called, and where it ends.

    Attributes:
        text, colour: of its label.
        y: in data coordinates.
    """

    text: str
    colour: str
    y: float


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Writes labels right of the axes, at the height of each end or as near to it as the others leave.

    To be called when limits and scale of the axes are what they will be.
    """
    to_heights = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    heights = [float(to_heights.transform((x, end.y))[1]) for end in ends]
    for end, height, place in zip(ends, heights, spread(heights, _GAP), strict=True):
        axes.annotate(
            end.text,
            xy=(1, min(max(height, 0), 1)),
            xytext=(1 + _LEADER, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=end.colour,
            fontsize=7.5,
            va="center",
            annotation_clip=False,
            arrowprops=_LEADER_LINE | {"color": end.colour},
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
