"""Slepian-Wolf coded quantization of vectors as they are: the server knows where their energy lies."""

from dataclasses import dataclass
from math import floor
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wzfl.compressors.envelope import open_rows, seal_rows
from wzfl.compressors.inputs import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    checked,
    finite,
    usable,
)
from wzfl.compressors.plane_plan import Plan, plan
from wzfl.compressors.planned_planes import PlannedPlanes
from wzfl.compressors.slepian_wolf import SlepianWolf, check_block
from wzfl.errors import InputError, from_client
from wzfl.public import Public, permutation
from wzfl.residual_model import ResidualModel

_SHORTEST = 2**10  # vectors below it tell too little of their distribution


@dataclass(frozen=True)
class LearnedSlepianWolf:
    """Rounds with dither, and sends of the cell numbers' bits what the server can not guess.

    As `SlepianWolf`, but nothing is rotated: most coordinates of a gradient carry next to nothing, a few
    carry the rest, and a server that remembers which ones pays for the few alone. What it has learned of
    the residuals' distribution, coordinate by coordinate (`ResidualModel`), fixes the size of the cells and
    how many bits of each plane are sent; it broadcasts these, some 60 bytes. A client needs no more to
    encode, and the entropy that a model at the encoder would save is saved at the decoder, as Slepian and
    Wolf promise. Estimates are posterior means. In a block of which a plane is misread, the planes above it
    still tell something. A client sends what `SlepianWolf` would where that promises less of an error, as in
    short vectors, and before anything is learned.

    Source: as of `SlepianWolf`; coding with a conditional density that only the decoder has: Wyner & Ziv,
    IEEE Trans. IT 22(1), 1976, Theorem 1, at high resolution.

    Attributes:
        bitrate: bits per coordinate.
        block: most coordinates of a block; 2**17 at most of one that is coded as by `SlepianWolf`.
    """

    bitrate: float
    block: int = 2**18

    wire_id: ClassVar[int] = 15
    aggregation: ClassVar[str] = "mean"
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_bitrate("learned_slepian_wolf", self.bitrate, LOWEST_BITRATE, HIGHEST_BITRATE)
        check_block(self.block)

    def plan(self, model: ResidualModel, side: Tensor) -> list[bytes]:
        """See `Planned`."""
        if model.expectation is None or side.shape[1] < _SHORTEST:
            return [b""] * len(side)
        size, bits = self._size(side.shape[1]), self._bits(side.shape[1])
        error_alone = 1 - self.residual_gain(side.shape[1], 1.0)
        plans = []
        for recent, expected, margin in zip(model.recent, side, model.margins, strict=True):
            found = None
            if recent is not None:
                some = expected[torch.from_numpy(recent.coordinates)].cpu().numpy()
                found = plan(recent, some, model.expectation.density, margin, size, bits)
            better = found is not None and found[1] < error_alone
            plans.append(found[0].to_bytes() if found and better else b"")
        return plans

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates, bodies = checked(updates, public), []
        for row, planned in enumerate(public.plans):
            one, update = public.rows(slice(row, row + 1)), updates[row : row + 1]
            if planned:
                planes, order = self._planes(planned, update.shape[1], one)
                bodies.append(planes.write(update[0].cpu().numpy()[order]))
            else:
                bodies += self._alone.bodies(update, one)
        return seal_rows(self, bodies, updates.shape[1], public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        return self.decode_checked(payloads, side, public)[0]

    def decode_checked(
        self,
        payloads: list[bytes],
        side: Tensor,
        public: Public,
        model: ResidualModel | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `SideInformed` and, for `model`, `Planned`."""
        side = usable(side, public)
        dim, failed = side.shape[1], []
        estimates = torch.empty(side.shape, dtype=torch.float32, device=side.device)
        for row, body in enumerate(open_rows(self, payloads, dim, public)):
            one, expected = public.rows(slice(row, row + 1)), side[row : row + 1]
            if public.plans[row]:
                estimate, misread = self._read_planned(body, row, expected, one, model)
            else:
                estimate, unread = self._alone.read([body], expected, one)
                misread = bool(unread)
            estimates[row] = estimate
            failed.append(misread)
        return finite(estimates, public, side=side), torch.tensor(failed, device=side.device)

    def residual_gain(self, dim: int, scale_ratio: float) -> float:
        """See `SideInformed`; that of `SlepianWolf`, as a planned posterior mean leaves out little."""
        return self._alone.residual_gain(dim, scale_ratio)

    def _read_planned(
        self,
        body: memoryview,
        row: int,
        expected: Tensor,
        public: Public,
        model: ResidualModel | None,
    ) -> tuple[Tensor, bool]:
        """The estimate of one row, and whether some plane of it was misread."""
        if model is None or model.expectation is None:
            raise InputError("a planned payload is decoded with the model it was planned from")
        expectation = model.expectation
        planes, order = self._planes(public.plans[0], expected.shape[1], public)
        values, contexts = expected[0].cpu().numpy()[order], expectation.contexts[row][order]
        with from_client(public.clients[0]):
            reading = planes.read(body, values, contexts, expectation.density)
        starts, widths = (_back(each, order) for each in (reading.starts, reading.widths))
        residual = model.explain(row, starts, widths, reading.stretch)
        return expected + torch.from_numpy(residual).to(expected), reading.misread

    def _planes(self, planned: bytes, dim: int, public: Public) -> tuple[PlannedPlanes, np.ndarray]:
        """The code of a plan, and the order in which coordinates are sent, as neighbours may be alike."""
        plan = Plan.from_bytes(planned)
        plan.check(self._size(dim), self._bits(dim))
        noise = public.uniform("rounding", dim)[0].cpu().numpy()
        return PlannedPlanes(plan, self._size(dim), noise), _order(dim)

    def _size(self, dim: int) -> int:
        """Coordinates of a block."""
        blocks = -(-dim // self.block)
        return -(-dim // blocks)

    def _bits(self, dim: int) -> int:
        """Bits of a block, at most."""
        return floor(dim * self.bitrate) // -(-dim // self._size(dim))

    @property
    def _alone(self) -> SlepianWolf:
        """The code for a client of which nothing is known."""
        return SlepianWolf(self.bitrate, "posterior_mean", min(self.block, SlepianWolf.block))


def _order(dim: int) -> np.ndarray:
    return permutation(dim).numpy()


def _back(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Values of coordinates in `order`, each put back in its place."""
    back = np.empty_like(values)
    back[order] = values
    return back
