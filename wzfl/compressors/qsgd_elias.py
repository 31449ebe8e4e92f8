"""QSGD as in its theory: levels of the 2-norm, Elias coded."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from wzfl.compressors.envelope import open_rows, seal_rows
from wzfl.compressors.inputs import (
    LOWEST_BITRATE,
    check_bitrate,
    check_choice,
    checked,
    dim_of,
    finite,
)
from wzfl.elias import CODES, LARGEST, decode, encode, lengths_by_digits
from wzfl.errors import PayloadError, from_client
from wzfl.kernels import elias as kernel
from wzfl.public import Public

_HEADER = struct.Struct("<fI")  # distance of levels; number of nonzero ones, or _DENSE
_DENSE = 2**32 - 1
_SEARCH_STEPS = 40


@dataclass(frozen=True)
class QSGDElias:
    """|x| sign(x_j) xi_j, xi_j the stochastic rounding of |x_j|/|x| to multiples of 1/s.

    s, which need not be whole, is the largest whose code fits the bitrate; the client finds it and sends
    the distance of levels |x|/s. Unbiased for a given s; that s depends on the roundings, as the length
    of their code does, adds a relative bias of the order of one over the number of nonzero levels.

    Two codes, of which the shorter one is sent: the gaps between nonzero levels, their signs and their
    magnitudes (for few), or every magnitude plus one and the signs of nonzero ones (for many).

    Source: Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding"
    (NeurIPS 2017), theorems 3.2 and 3.4.

    Attributes:
        bitrate: bits per coordinate, up to 12.
        code: "omega", as published, or "gamma", which is shorter for levels 4 to 7 and 16 to 31.
    """

    bitrate: float
    code: str = "omega"

    wire_id: ClassVar[int] = 12
    aggregation: ClassVar[str] = "mean"
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bitrate("qsgd_elias", self.bitrate, LOWEST_BITRATE, 12)
        check_choice("code", self.code, CODES)

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        updates = checked(updates, public)
        dim = updates.shape[1]
        noise = public.uniform("rounding", dim).cpu().numpy()
        pairs = zip(updates.cpu().numpy(), noise, strict=True)
        return seal_rows(self, [self._body(*pair) for pair in pairs], dim, public)

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        dim = dim_of(side, public)
        bodies = open_rows(self, payloads, dim, public)
        rows = []
        for body, client in zip(bodies, public.clients, strict=True):
            with from_client(client):
                rows.append(_from_bytes(body, dim, self.code))
        estimates = torch.from_numpy(np.stack(rows))
        return finite(estimates.to(side.device), public)

    def _body(self, update: np.ndarray, noise: np.ndarray) -> bytes:
        magnitudes = np.abs(update.astype(np.float64))

        @cache
        def bits(step: float) -> tuple[int, int]:
            """Lengths of the code for few nonzero levels, and of that for many."""
            lengths = lengths_by_digits(self.code)
            return kernel.coded_bits(magnitudes, step, noise, LARGEST - 2, lengths)

        whole = self.bitrate * len(update)
        # Half of it at least, or of a vector shorter than its header nothing would be sent.
        budget = max(whole - 8 * _HEADER.size, whole / 2)
        step = _smallest(lambda step: min(bits(step)) <= budget, float(magnitudes.max()))
        few, many = bits(step)
        levels = _levels(magnitudes, step, noise)
        return _to_bytes(update < 0, levels, step, self.code, sparse=few <= many)


def _smallest(fits: Callable[[float], bool], largest: float) -> float:
    """The smallest distance of levels, a float32, whose code fits; by bisection."""
    if largest == 0:
        return 1.0
    low, high = np.log(largest) - 21, np.log(largest) + 21  # 2**30 levels; next to none
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        if fits(_float32(np.exp(middle))):
            high = middle
        else:
            low = middle
    return _float32(np.exp(high))


def _float32(step: float) -> float:
    """The step as it will be sent, a positive float32."""
    limits = np.finfo(np.float32)
    return float(np.float32(min(max(step, float(limits.tiny)), float(limits.max))))


def _levels(magnitudes: np.ndarray, step: float, noise: np.ndarray) -> np.ndarray:
    """`[dim]` int64: stochastic rounding to multiples of `step`, in units of it."""
    return np.floor(np.minimum(magnitudes / step, LARGEST - 2) + noise).astype(np.int64)


def _gaps(places: np.ndarray) -> np.ndarray:
    """Distances between places and from -1 to the first, at least 1."""
    return np.diff(places, prepend=-1)


def _to_bytes(
    negative: np.ndarray, levels: np.ndarray, step: float, code: str, sparse: bool
) -> bytes:
    places = np.flatnonzero(levels)
    if sparse:
        header = _HEADER.pack(step, len(places))
        numbers = [_gaps(places), levels[places]]
    else:
        header, numbers = _HEADER.pack(step, _DENSE), [levels + 1]
    bits = [*(encode(each, code) for each in numbers), negative[places].view(np.uint8)]
    return header + np.packbits(np.concatenate(bits)).tobytes()


def _from_bytes(body: memoryview, dim: int, code: str) -> np.ndarray:
    if len(body) < _HEADER.size or len(body) > _HEADER.size + 8 * dim + 64:
        raise PayloadError(f"got a body of {len(body)} bytes for dim {dim}")
    step, count = _HEADER.unpack_from(body)
    if not np.isfinite(step):
        raise PayloadError("got a distance of levels that is NaN or infinite")
    bits = np.unpackbits(np.frombuffer(body[_HEADER.size :], dtype=np.uint8))
    magnitudes = np.zeros(dim, dtype=np.int64)
    if count == _DENSE:
        numbers, end = decode(bits, dim, code)
        magnitudes[:] = numbers.astype(np.int64) - 1
        places = np.flatnonzero(magnitudes)
    elif count <= dim:
        gaps, middle = decode(bits, count, code)
        places = np.cumsum(gaps.astype(np.int64)) - 1
        if count and places[-1] >= dim:
            raise PayloadError(f"got a nonzero level at {places[-1]}; dim is {dim}")
        numbers, length = decode(bits[middle:], count, code)
        magnitudes[places], end = numbers.astype(np.int64), middle + length
    else:
        raise PayloadError(f"got {count} nonzero levels; dim is {dim}")
    signs = bits[end : end + len(places)]
    if len(signs) != len(places):
        raise PayloadError(f"got {len(signs)} signs; expected {len(places)}")
    values = np.zeros(dim, dtype=np.float32)
    with np.errstate(over="ignore"):  # of a forged payload; its decoder refuses infinities
        values[places] = magnitudes[places] * np.float64(step) * (1 - 2.0 * signs)
    return values
