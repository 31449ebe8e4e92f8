"""Keeps what the server has seen of where in a vector residuals are large."""

from dataclasses import dataclass, field, replace
from math import log2

import numpy as np
import torch
from torch import Tensor

from wzfl.history import History
from wzfl.kernels.density import BINS
from wzfl.public import permutation
from wzfl.residual_model import (
    Density,
    Expectation,
    Recent,
    ResidualModel,
    bins_of,
    uncertainty,
)

_FORGET = 0.5  # weight of what was counted in the rounds before
_CAUTION, _CALM, _WORST = 2.0, 0.93, 8.0  # of a client's margin: after a failure, none, at most
_MOST_DOUBT = 8.0
_NEGLIGIBLE = 2.0**-24  # magnitude, in units
_RECENT = 2**14  # residuals of a client that are kept
_OWN, _COMMON = 0, 1


@dataclass(eq=False)
class Spread:
    """Two expectations of how large residuals are, coordinate by coordinate, and how large they then were.

    Source: wzfl's own. Counting outcomes by quantized predictions is context modelling, as in lossless
    coding of images (Wu & Memon, "Context-Based, Adaptive, Lossless Image Coding", IEEE Trans. Commun.
    45(4), 1997); here only the decoder does it.

    Attributes:
        own: by client, running means of squared residuals.
        common: `[dim]`, their mean over the clients of the last round.
        counts: `[2, contexts, bins]` residuals by what was expected, from `own` and from `common`.
        unit: in which magnitudes are measured; 0 before the first round.
        pace: weight of a squared residual in `own`.
        seen: bool `[population]`: whether `own` says anything of a client.
        stretch: `[population]`, factor by which the last residuals were larger than their running mean.
        doubt: `[population]`, factor on expected magnitudes, above 1 since nothing was read.
        caution: `[population]`, factor on the margin.
        predicted: bool `[population]`: whether residuals are taken from predictions; else they are the
            updates.
        recent: by client, some of the residuals that were last read.
        asked: clients of the round, or of its wave.
        planned: by client whose planned payload was decoded, until it is learned from, variances `[dim]` of
            what was read.
        counted: by client, what is to be added to `counts`, of residuals over their stretch.
        stretches: by client, the stretch over the growth expected since.
    """

    own: History
    common: Tensor
    counts: np.ndarray
    unit: float
    pace: float
    seen: Tensor
    stretch: Tensor
    doubt: Tensor
    caution: Tensor
    predicted: Tensor
    recent: dict[int, Recent] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    planned: dict[int, Tensor] = field(default_factory=dict)
    counted: dict[int, np.ndarray] = field(default_factory=dict)
    stretches: dict[int, float] = field(default_factory=dict)

    @classmethod
    def empty(
        cls,
        population: int,
        dim: int,
        device: torch.device,
        capacity: int | None,
        pace: float,
    ) -> "Spread":
        return cls(
            own=History(dim, device, "bfloat16", capacity or population),
            common=torch.zeros(dim, device=device),
            counts=np.zeros((2, BINS, BINS)),
            unit=0.0,
            pace=pace,
            seen=torch.zeros(population, dtype=torch.bool, device=device),
            stretch=torch.ones(population, device=device),
            doubt=torch.ones(population, device=device),
            caution=torch.ones(population, device=device),
            predicted=torch.zeros(population, dtype=torch.bool, device=device),
        )

    def expect(self, clients: list[int]) -> None:
        """Makes room for the clients of a round."""
        for forgotten in self.own.admit(clients):
            self.seen[forgotten] = self.predicted[forgotten] = False
            self.recent.pop(forgotten, None)
        self.asked = clients
        self.planned.clear()  # payloads that were refused after all

    def model(self, clients: Tensor, margin: float) -> ResidualModel:
        """Models residuals by the better of both expectations; both then learn from what is read."""
        both = [self._expectation(clients, which) for which in (_OWN, _COMMON)]
        own, common = (uncertainty(counts) for counts in self.counts)
        better = _OWN if own < common else _COMMON
        contexts, some = both[better].contexts, self._some()

        def explain(row: int, starts: np.ndarray, widths: np.ndarray, stretch: float) -> np.ndarray:
            client = int(clients[row])
            recent = Recent(some, contexts[row][some], starts[some], widths[some], stretch)
            if recent.read:
                stretch *= both[better].likeliest_stretch(recent)
                recent = replace(recent, stretch=stretch)
            explained = [each.explain(row, starts, widths, stretch) for each in both]
            means, squares, _ = explained[better]
            variances = torch.from_numpy((squares - means**2).clip(min=0))
            self.planned[client] = variances.to(self.common)
            if recent.read:
                self.counted[client] = np.stack([counts for *_, counts in explained])
                if client in self.own.places:
                    self.recent[client] = recent
                self.add(client, torch.from_numpy(squares))
                moved = self._moved(clients[row : row + 1], both[_OWN].contexts[row])
                self.stretches[client] = stretch / moved
            else:
                self.doubt[client] = min(2 * float(self.doubt[client]), _MOST_DOUBT)
            return means

        recent: list[Recent | None] = []
        for row, client in enumerate(clients.tolist()):
            last = self.recent.get(client, Recent.unseen(some, contexts[row][some]))
            recent.append(last.larger(float(self.doubt[client])) if self.seen[client] else None)
        margins = (margin * self.caution[clients]).tolist()
        return ResidualModel(both[better] if self.unit > 0 else None, recent, margins, explain)

    def start_over(self, client: int, squares: Tensor) -> None:
        """Takes squared residuals `[dim]` of a client that sent without a plan, and hence without cells."""
        self.recent.pop(client, None)
        self.add(client, squares)

    def turn(self, client: int, squares: Tensor, *, predicted: bool) -> None:
        """Begins or ends to take residuals from predictions; the last ones then had `squares` `[dim]`."""
        self.predicted[client] = predicted and client in self.own.places
        self.seen[client] = False
        self.start_over(client, squares)

    def add(self, client: int, squares: Tensor) -> None:
        """Takes a client's squared residuals `[dim]` into its running mean, if there is a place for it."""
        if client not in self.own.places:
            return
        squares = squares.to(self.common.device, torch.float32)
        self.own.move(client, squares, self.pace if self.seen[client] else 1.0)
        self.seen[client] = True
        self.doubt[client] = 1.0
        if self.unit > 0:
            least = (self.unit * _NEGLIGIBLE) ** 2
            usual = self.own.read([client])[0] + least
            self.stretch[client] = ((squares + least) / usual).log_().mean().mul(0.5).exp()
        self.caution[client] = (_CALM * self.caution[client]).clamp_min(1.0)

    def beware(self, clients: Tensor) -> None:
        """Expects more of clients whose decoding failed."""
        self.caution[clients] = (_CAUTION * self.caution[clients]).clamp_max(_WORST)

    def finish(self) -> None:
        """Ends a round, or its wave: takes its mean into `common`, and what was counted into `counts`."""
        seen = [client for client in self.asked if self.seen[client]]
        if not seen:
            return
        self.common.zero_()
        for client in seen:
            self.common.add_(self.own.read([client])[0], alpha=1 / len(seen))
        energy = float(self.common.mean())
        if self.unit == 0 and energy > 0:
            self.unit = 2.0 ** round(log2(energy) / 2)
            self._compare(seen)
        # In an order that does not depend on threads.
        new = sum((self.counted[client] for client in sorted(self.counted)), np.zeros(()))
        if self.counted:
            # Not of one client more than of the others, but of all: that is to be expected from now on.
            logs = [log2(self.stretches[client]) for client in sorted(self.counted)]
            new = _larger(new, 2.0 ** (sum(logs) / len(logs)))
        self.counts = _FORGET * self.counts + new
        self.counted.clear()
        self.stretches.clear()

    def _compare(self, clients: list[int]) -> None:
        """Counts the first round's residuals by the others' mean: nothing was expected of them yet."""
        others = len(clients) - 1
        for client in clients if others else []:
            own = self.own.read([client])
            expected = ((len(clients) * self.common - own) / others).clamp_min(0).sqrt()
            bins = (bins_of(expected, self.unit), bins_of(own.sqrt(), self.unit))
            np.add.at(self.counts[_COMMON], bins, 1)

    def _some(self) -> np.ndarray:
        """Returns the coordinates of which `recent` is kept, the same for all clients."""
        return permutation(len(self.common))[:_RECENT].numpy()

    def _expectation(self, clients: Tensor, which: int) -> Expectation:
        contexts = self._contexts(clients, which)
        return Expectation(contexts, Density.of(self.counts[which], self.unit or 1.0))

    def _contexts(self, clients: Tensor, which: int) -> np.ndarray:
        """Returns the bins of expected magnitudes, uint8 `[clients, dim]`."""
        factors = self.stretch[clients] * self.doubt[clients]
        return bins_of(self._magnitudes(clients, which) * factors[:, None], self.unit or 1.0)

    def _moved(self, client: Tensor, contexts: np.ndarray) -> float:
        """Returns how many times larger a client's `own` expectations are than when they were `contexts`."""
        now = self._contexts(client, _OWN)[0]
        known = (contexts > 0) & (now > 0)
        octaves = (now[known].mean() - contexts[known].mean()) / 2 if known.any() else 0.0
        return float(2.0**octaves)

    def _magnitudes(self, clients: Tensor, which: int) -> Tensor:
        """Returns expected magnitudes `[clients, dim]`, before stretch and doubt."""
        if which == _OWN:
            return self.own.read(clients.tolist()).sqrt()
        return self.common.sqrt().expand(len(clients), -1)


def _larger(counts: np.ndarray, factor: float) -> np.ndarray:
    """Moves `counts` `[..., bins]` of magnitudes to the bins of magnitudes larger by `factor`."""
    whole, part = divmod(2 * log2(factor), 1)
    bins = np.arange(BINS)
    moved = np.zeros_like(counts)
    for shift, weight in ((int(whole), 1 - part), (int(whole) + 1, part)):
        kept = (bins + shift >= 0) & (bins + shift < BINS)
        moved[..., bins[kept] + shift] += weight * counts[..., kept]
    return moved
