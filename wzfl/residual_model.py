"""What the server expects of residuals beyond their mean: how large each coordinate's may be.

Gradients are far from Gaussian vectors: most of their energy lies in few coordinates, and these are much
the same from round to round. A context, coordinate by coordinate, stands for a magnitude of earlier
residuals there; how residuals are distributed in each context is counted.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from torch import Tensor

from wzfl.kernels import density as kernel
from wzfl.kernels.density import BINS, EDGES

_PRIOR = 20.0  # residuals that the shape common to all contexts stands for in each of them
_SELDOM = 1e-3  # share of the common shape that is spread over all bins
ANYWHERE = 1e60  # where a residual of which nothing is known does not lie beyond
_OCTAVES = np.arange(-4.0, 5.0)  # factors tried for a stretch, of which the best one is refined
_FALLS, _RISES = 0.85, 0.35  # from a bin to the next, of the shape before anything was counted


@dataclass(frozen=True, eq=False)
class Density:
    """A probability density of residuals per context: symmetric, uniform within half octaves.

    Attributes:
        unit: the unit of magnitudes.
        tables: `[4, contexts, bins]`, see `wzfl.kernels.density`.
        reach: magnitude, in units, beyond which nothing was seen.
    """

    unit: float
    tables: np.ndarray
    reach: float

    @classmethod
    def of(cls, counts: np.ndarray, unit: float) -> "Density":
        """Estimates densities from float64 counts `[contexts, bins]`.

        Magnitudes relative to their context's are counted over all contexts too, as a prior for those in
        which little was seen.
        """
        shape = np.zeros(2 * BINS)  # by bin - context + BINS
        for context in range(BINS):
            shape[BINS - context : 2 * BINS - context] += counts[context]
        if shape.sum() == 0:
            offsets = np.arange(-BINS, BINS)
            shape = np.where(offsets < 0, _FALLS, _RISES) ** np.abs(offsets)
        shape = shape / shape.sum() * (1 - _SELDOM) + _SELDOM / len(shape)
        prior = np.stack([shape[BINS - context : 2 * BINS - context] for context in range(BINS)])
        share = counts + _PRIOR * prior / prior.sum(axis=1, keepdims=True)
        share /= share.sum(axis=1, keepdims=True)
        start, end = EDGES[:-1], EDGES[1:]
        moments = [np.ones(BINS), (start + end) / 2, (start**2 + start * end + end**2) / 3]
        before = [np.cumsum(share * moment, axis=1) - share * moment for moment in moments]
        seen = np.flatnonzero(counts.sum(axis=0) > 0.5)
        return cls(unit, np.stack([share, *before]), EDGES[seen[-1] + 1 if len(seen) else BINS])


@dataclass(frozen=True, eq=False)
class Recent:
    """Some residuals of a round before, and what was expected of them.

    Attributes:
        coordinates: int64 `[n]`, their places in the vector.
        contexts: uint8 `[n]`, what was expected of them.
        starts: `[n]`, the lower ends of the cells that they lie in.
        widths: `[n]`, the widths of these cells.
        stretch: factor by which they were larger than expected.
    """

    coordinates: np.ndarray
    contexts: np.ndarray
    starts: np.ndarray
    widths: np.ndarray
    stretch: float = 1.0

    @classmethod
    def unseen(cls, coordinates: np.ndarray, contexts: np.ndarray) -> "Recent":
        """Residuals of which no more is known than what was expected."""
        anywhere = np.full(len(coordinates), ANYWHERE)
        return cls(coordinates, contexts, -anywhere, 2 * anywhere)

    @property
    def read(self) -> bool:
        """Whether these residuals were ever read, rather than only expected."""
        return bool(self.widths.min() < ANYWHERE)

    def larger(self, factor: float) -> "Recent":
        """Returns the same residuals, larger by `factor`."""
        return replace(
            self,
            starts=self.starts * factor,
            widths=self.widths * factor,
            stretch=self.stretch * factor,
        )

    def resized(self, count: int) -> "Recent":
        """Returns the first `count` residuals, which repeat where there are fewer."""
        return replace(
            self,
            coordinates=np.resize(self.coordinates, count),
            contexts=np.resize(self.contexts, count),
            starts=np.resize(self.starts, count),
            widths=np.resize(self.widths, count),
        )


@dataclass(frozen=True, eq=False)
class Expectation:
    """Says how large some clients' residuals are expected to be.

    Attributes:
        contexts: uint8 `[clients, dim]`, bins of expected magnitudes.
        density: how residuals are distributed in each context.
    """

    contexts: np.ndarray
    density: Density

    def likeliest_stretch(self, recent: Recent) -> float:
        """Returns the further factor by which the residuals read are most likely larger than expected.

        Counting what was read in coarse cells would take many rounds to notice that residuals shrink.
        """
        bits = [
            kernel.information(
                recent.starts,
                recent.widths,
                2**-octave / (self.density.unit * recent.stretch),
                recent.contexts,
                self.density.tables,
            )
            for octave in _OCTAVES
        ]
        best = min(max(int(np.argmin(bits)), 1), len(bits) - 2)
        before, least, after = bits[best - 1 : best + 2]
        curvature = before - 2 * least + after
        # The vertex of the parabola through three points.
        step = (before - after) / (2 * curvature) if curvature > 0 else 0.0
        return float(2 ** (_OCTAVES[best] + min(max(step, -1.0), 1.0)))

    def explain(
        self, row: int, starts: np.ndarray, widths: np.ndarray, stretch: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns posterior means `[dim]` of residuals and of their squares, and counts `[contexts, bins]`.

        Residuals of a row are known to lie within `widths` from `starts`, and to be larger than expected
        by a factor of `stretch`.
        """
        unit, counts = self.density.unit * stretch, np.zeros((BINS, BINS))
        means, squares = np.empty(len(starts)), np.empty(len(starts))
        kernel.explain(
            starts / unit,
            widths / unit,
            self.contexts[row],
            self.density.tables,
            means,
            squares,
            counts,
        )
        return means * unit, squares * unit**2, counts.clip(min=0)


@dataclass(frozen=True, eq=False)
class ResidualModel:
    """What the server alone knows of some clients' residuals before they are sent.

    Attributes:
        expectation: how large they are expected to be; None before anything is known.
        recent: by row, residuals that those to come are planned to be like; None: nothing is known.
        margins: by row, factor on what is planned for beyond the entropies.
        explain: called with a row, starts, widths and a stretch, returns the posterior means `[dim]` of
            residuals that lie in these cells, and learns from them.
    """

    expectation: Expectation | None
    recent: list[Recent | None]
    margins: list[float]
    explain: Callable[[int, np.ndarray, np.ndarray, float], np.ndarray]


def bins_of(magnitudes: Tensor, unit: float) -> np.ndarray:
    """Returns the half octave of each magnitude, uint8 `[clients, dim]`: of expected ones, the contexts."""
    values = magnitudes.detach().float().cpu().numpy()
    bins = np.empty(values.shape, np.uint8)
    for row, numbers in zip(values, bins, strict=True):
        kernel.bin_numbers(row, 1 / unit, numbers)
    return bins


def uncertainty(counts: np.ndarray) -> float:
    """Mean bits of a residual's bin, given its context; infinite before anything was counted."""
    if not counts.any():
        return inf
    totals = counts.sum(axis=1, keepdims=True)
    chance = np.divide(counts, totals, out=np.ones_like(counts), where=counts > 0)
    return float(-(counts * np.log2(chance)).sum() / totals.sum())
