"""The rotated modulo quantizer: indices modulo a few levels; the server's memory knows the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from wzfl.bitpack import pack, packed_size, unpack
from wzfl.compressors import planned_scale, posterior
from wzfl.compressors.allocation import Allocation, length
from wzfl.compressors.cells import Cells, Scalar
from wzfl.compressors.envelope import check_rows, seal_parts, split, unchecked_rows
from wzfl.compressors.inputs import (
    HIGHEST_BITRATE,
    LOWEST_BITRATE,
    check_bitrate,
    check_choice,
    check_planned,
    finite,
    unchecked,
    usable,
)
from wzfl.compressors.modulo import SMALLEST_CELL
from wzfl.compressors.overflow import CHECK_BYTES, OverflowCheck, covered
from wzfl.errors import InputError, PayloadError
from wzfl.host import Arrivals, ask
from wzfl.norms import energies, rms
from wzfl.public import Public
from wzfl.rotation import rotate, rotate_back
from wzfl.theory import posterior_energy


@dataclass(frozen=True)
class WynerZiv:
    """Rotates, rounds, and sends indices modulo 2**bits; decodes to the candidate nearest to `side`.

    A coordinate decodes to within a cell of its value whenever its rotated distance to the server's
    side information is at most `reach * public.scale`; beyond that it lands a block away. At
    bitrates that are not whole, a shared random subset takes one bit more; below `symbol_bits` only a
    subset is sent. Where the server plans no scale (0), the client scales by its own RMS (its largest
    magnitude, if nothing is rotated), sends that along, and is decoded without side information.

    Every payload carries a short checksum of the unwrapped indices (`OverflowCheck`), by which the
    server notices that the planned scale was wrong.

    Source: MQ, RMQ and subsampled RMQ of Mayekar, Suresh, Tyagi, "Wyner-Ziv Estimators" (AISTATS 2021),
    as used by Liang et al., "Wyner-Ziv Gradient Compression for Federated Learning" (2021). Ours:
    subtractive dither (half the error of stochastic rounding, the published choice), scales instead
    of bounds, a rotation without padding, the checksum, the estimators other than "plain".

    Attributes:
        bitrate: bits per coordinate.
        rounding: "dither" (shared offset, removed at the decoder) or "stochastic" (as published).
        reach: trusted distance to the side information per rotated coordinate, in units of
            `public.scale`; None takes the value of least error for a Gaussian residual.
        estimator: "plain", the candidate itself, unbiased within reach; "wiener", y + a (x^ - y) with
            the best a; "posterior_mean" of a Gaussian residual (dither only). The last two have a
            smaller error, but one that does not average out over clients.
        symbol_bits: log2 k of the narrowest symbols; lower bitrates send fewer coordinates.
        rotation: False is MQ, which quantizes the coordinates as they are.
        on_failure: what a row decodes to whose check fails: "clip", the decoded residual shortened to
            the planned norm, or "side", the side information alone.
    """

    bitrate: float
    rounding: str = "dither"
    reach: float | None = None
    estimator: str = "plain"
    symbol_bits: int = 2
    rotation: bool = True
    on_failure: str = "clip"

    name: ClassVar[str] = "wyner_ziv"
    wire_id: ClassVar[int] = 4
    aggregation: ClassVar[str] = "mean"
    highest: ClassVar[float] = HIGHEST_BITRATE  # bits per coordinate, and per symbol

    def __post_init__(self) -> None:
        check_bitrate(self.name, self.bitrate, LOWEST_BITRATE, self.highest)
        check_choice("rounding", self.rounding, ("dither", "stochastic"))
        check_choice("estimator", self.estimator, ("plain", "wiener", "posterior_mean"))
        check_choice("on_failure", self.on_failure, ("clip", "side"))
        if self.reach is not None and not self.reach > 0:
            raise InputError(f"reach must be above 0, or null for the best; got {self.reach}")
        narrowest = 1 if self.rounding == "dither" else 2
        if not narrowest <= self.symbol_bits <= self.highest:
            raise InputError(
                f"symbol_bits must be {narrowest} to {self.highest:g} with rounding"
                f" {self.rounding}; got {self.symbol_bits}"
            )
        if self.estimator == "posterior_mean" and self.rounding != "dither":
            raise InputError("the posterior mean is that of dither; set rounding=dither")

    @property
    def unbiased(self) -> bool:
        return self.estimator == "plain"

    @property
    def uses_failed(self) -> bool:
        """Whether a row whose check failed is estimated from its payload all the same."""
        return self.on_failure == "clip"

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates, verify = unchecked(updates, public)
        dim = updates.shape[1]
        allocation = self._allocation(dim)
        rotated = self._rotate(updates, public)
        scale, own_scale_bytes = planned_scale.chosen(partial(self._own_scale, rotated), public)
        sent = allocation.gather(rotated, public)
        noise = public.uniform("rounding", allocation.count)
        folded, check, arrivals = [], OverflowCheck(), Arrivals()
        for bits, columns, cells in self._parts(allocation):
            overflow = cells.moments(bits).overflow
            count = covered(length(columns), overflow, cells.at_once)
            indices, sums = cells.fold(
                sent[:, columns], noise[:, columns], _cell(bits, cells, scale), bits, count
            )
            check.add(count, overflow, sums)
            folded.append((indices, bits))
        copied_sums = check.ask()  # before symbols, which take longer to arrive
        symbols = [pack(indices, bits, arrivals) for indices, bits in folded]
        verify()
        parts = zip(own_scale_bytes, copied_sums(), *symbols, strict=True)
        return seal_parts(self, parts, dim, public, arrivals)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        return self.decode_checked(payloads, side, public)[0]

    def decode_checked(
        self, payloads: list[bytes], side: Tensor, public: Public
    ) -> tuple[Tensor, Tensor]:
        """See `SideInformed`."""
        side = usable(side, public)
        dim = side.shape[1]
        allocation = self._allocation(dim)
        bodies = unchecked_rows(self, payloads, dim, public)
        planned = all(public.has_scale)
        if not planned:
            side = side * (public.scale > 0)[:, None]
        # A GPU computes while the host reads payloads, and checks them; an own scale is not used unchecked.
        check = partial(check_rows, self, payloads, public)
        if not planned:
            check()
        residual, scale, differs = self._residuals(bodies, side, allocation, public, check)
        residual = allocation.scatter(residual, public)
        estimates = self._rotate_back(residual, public, side)
        failed = differs()
        some_failed = ask(failed.any())
        estimates = finite(estimates, public, check if planned else None, side)
        if some_failed():  # seldom: once more, where a GPU went on before this was known
            residual = self._on_failure(self._rotate_back(residual, public), failed, scale)
            estimates = finite(residual.add_(side), public, side=side)
        return estimates, failed

    def residual_gain(self, dim: int, scale_ratio: float) -> float:
        """See `SideInformed`."""
        check_planned(dim, scale_ratio)
        allocation = self._allocation(dim)
        energy = sum(
            length(columns) / allocation.count * self._energy(bits, cells, 1 / scale_ratio)
            for bits, columns, cells in self._parts(allocation)
        )
        sampled = allocation.count / dim
        return energy * scale_ratio**2 * (1 / sampled if self.unbiased else sampled)

    def _residuals(
        self,
        bodies: list[memoryview],
        side: Tensor,
        allocation: Allocation,
        public: Public,
        check: Callable[[], None],
    ) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        """Residuals `[clients, count]` of what was sent, scales, and a function that says which rows failed.

        `check` raises where a payload is damaged.
        """
        expected = allocation.gather(self._rotate(side, public), public)
        noise = None
        if self.rounding == "dither":
            noise = public.uniform("rounding", allocation.count)
        try:
            scale, sums, symbols = self._read(bodies, allocation, public)
        except PayloadError:
            check()  # says whose payload is damaged, if one is
            raise
        parts, overflows = [], OverflowCheck()
        for (bits, columns, cells), strings in zip(self._parts(allocation), symbols, strict=True):
            overflow = cells.moments(bits).overflow
            count = covered(length(columns), overflow, cells.at_once)
            cell = _cell(bits, cells, scale)  # before a GPU waits for symbols
            distances, their_sums = cells.unfold(
                unpack(strings, bits, length(columns), side.device),
                None if noise is None else noise[:, columns],
                expected[:, columns],
                cell,
                bits,
                count,
            )
            overflows.add(count, overflow, their_sums)
            parts.append(self._estimate(bits, cells, distances, scale))
        residual = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        if self.unbiased and allocation.count < allocation.dim:
            residual *= allocation.dim / allocation.count
        return residual, scale, partial(overflows.differs, sums)

    def _read(
        self, bodies: list[memoryview], allocation: Allocation, public: Public
    ) -> tuple[Tensor, list[memoryview], list[list[memoryview]]]:
        """The scales `[clients]`, the checksums, and the packed symbols of each width."""
        parts = self._parts(allocation)
        sizes = [CHECK_BYTES, *(packed_size(length(columns), bits) for bits, columns, _ in parts)]
        scale, rest = planned_scale.read(bodies, sum(sizes), public)
        sums, *symbols = split(rest, sizes)
        return scale, sums, symbols

    def _estimate(self, bits: int, cells: Cells, residual: Tensor, scale: Tensor) -> Tensor:
        """The residual `[clients, count]` that a candidate's distance to what is expected stands for."""
        if self.estimator == "plain":
            return residual
        if self.estimator == "wiener":
            return residual.mul_(_wiener_factor(bits, cells))
        assert isinstance(cells, Scalar)
        return posterior.estimates(residual, scale, 2**bits, cells.reach_of(bits))

    def _energy(self, bits: int, cells: Cells, residual: float) -> float:
        """E of the squared estimate of a residual N(0, residual**2), in units of the scale's square."""
        if self.estimator == "posterior_mean":
            assert isinstance(cells, Scalar)
            return posterior_energy(2**bits, cells.reach_of(bits), residual)
        energy = cells.moments(bits, residual).energy
        if self.estimator == "wiener":
            return energy * _wiener_factor(bits, cells) ** 2
        return energy

    def _on_failure(self, residual: Tensor, failed: Tensor, scale: Tensor) -> Tensor:
        """The residuals, and what is left of those of rows that `failed`."""
        factor = torch.zeros_like(scale)
        if self.on_failure == "clip":
            planned = scale.double() * residual.shape[1] ** 0.5
            norms = energies(residual).sqrt().clamp_min(1e-300)
            factor = (planned / norms).clamp_max(1).float()
        return residual * torch.where(failed, factor, 1)[:, None]

    def _check_no_scalar_settings(self) -> None:
        """Raises `InputError` where settings are of scalar quantization, for codes with other cells."""
        fixed = (self.rounding, self.reach, self.rotation) == ("dither", None, True)
        if not fixed or self.estimator == "posterior_mean":
            raise InputError(
                f"{self.name} takes rounding=dither, reach=null, rotation=true and estimator plain or"
                f" wiener; got {self}"
            )

    def _allocation(self, dim: int) -> Allocation:
        return Allocation.of(dim, self.bitrate, self.symbol_bits, 8 * CHECK_BYTES)

    def _parts(self, allocation: Allocation) -> list[tuple[int, slice, Cells]]:
        """What is sent: bits per symbol, of which coordinates, in which cells."""
        return [(bits, columns, self._scalar) for bits, columns in allocation.widths]

    def _rotate(self, vectors: Tensor, public: Public) -> Tensor:
        return rotate(vectors, public) if self.rotation else vectors.float()

    def _rotate_back(self, vectors: Tensor, public: Public, added: Tensor | None = None) -> Tensor:
        if self.rotation:
            return rotate_back(vectors, public, added=added)
        return vectors if added is None else vectors + added.float()

    def _own_scale(self, rotated: Tensor, rows: Tensor) -> Tensor:
        """Scales for these rows of the updates themselves."""
        if self.rotation:
            return rms(rotated[rows])
        widths = self._allocation(rotated.shape[1]).widths
        reach = min(self._scalar.reach_of(bits) for bits, _ in widths)
        largest = rotated[rows].abs().amax(dim=1)
        scale = largest / torch.full_like(largest, reach)  # a GPU divides by a number less exactly
        return scale * (1 + 2.0**-22)  # for the largest to lie within, however this was rounded

    @property
    def _scalar(self) -> Scalar:
        return Scalar(self.rounding, self.reach, self.estimator)


def _cell(bits: int, cells: Cells, scale: Tensor) -> Tensor:
    """`[clients]` float64 cell sizes, at least `SMALLEST_CELL`."""
    # float64: update / cell can pass 2**24, where float32 no longer tells neighbours apart.
    return (scale.double() * cells.step(bits)).clamp_min(SMALLEST_CELL)


def _wiener_factor(bits: int, cells: Cells) -> float:
    """a of least squared error in y + a (x^ - y), for a Gaussian residual as planned."""
    energy, correlation, _ = cells.moments(bits)
    return correlation / energy
