"""Scales that clients measure: a sketch of what the server expects tells each how far off it is.

The server knows what it expects and not the update, the client the other way round, and the code between
them has to be planned for their distance. An estimate from earlier rounds is wrong when training changes
pace. Instead the server broadcasts a linear sketch of what it expects, some hundred floats; the client
subtracts that of its update, and their distance is that of the vectors, to within a known error.
"""

from dataclasses import replace
from functools import lru_cache
from math import inf, sqrt

import numpy as np
import torch
from scipy.special import gammaincinv
from torch import Tensor

from wzfl.compressors.envelope import check_count
from wzfl.errors import InputError, PayloadError, from_client
from wzfl.norms import energies, squared_distances
from wzfl.public import Public

_TOO_SMALL = 1e-3  # share of scales that may be less than the residual's RMS
_SCALE_BYTES = 2


@lru_cache
def margin(size: int, dim: int) -> float:
    """Factor on the RMS that a sketch tells, with which one scale in a thousand is too small.

    The energy of a sketch of `size` signed sums is that of the vector times chi**2 / size, with `size`
    degrees of freedom, where each sum has about as much of the energy; where a few have most of it, more
    scales are too small. That of a float for each of `dim` coordinates is exact.
    """
    if size >= dim:
        return 1.0
    return sqrt(size / 2 / float(gammaincinv(size / 2, _TOO_SMALL)))


def sketches(vectors: Tensor, size: int, public: Public) -> Tensor:
    """Adds up every `size`-th coordinate of `[clients, dim]` under shared signs: float32 `[clients, size]`.

    E|sketch|**2 = |vector|**2 over these signs, and sketches of differences are differences of
    sketches.

    Source: the second-moment sketch of Alon, Matias, Szegedy (STOC 1996), each of whose sums here takes
    coordinates of its own, as in Charikar, Chen, Farach-Colton (ICALP 2002), not all of them.
    """
    signed = vectors.double() * public.signs("sketch", vectors.shape[1])
    padded = torch.nn.functional.pad(signed, (0, -signed.shape[1] % size))
    return padded.view(len(vectors), -1, size).sum(dim=1).float()


def with_measured_scales(updates: Tensor, public: Public) -> Public:
    """Puts the scales that clients measure in place of sketches; 0 where coding alone is as good.

    Scales are bfloat16, rounded up.

    Raises:
        InputError: there are no sketches.
    """
    if public.sketches is None:
        raise InputError(
            "scales are measured by what the server sketches; got public.sketches None: give it"
            " sketches(side, size, public)"
        )
    size, dim = public.sketches.shape[1], updates.shape[1]
    distances = squared_distances(sketches(updates, size, public), public.sketches)
    scale = margin(size, dim) * (distances / dim).sqrt()
    scale = torch.where(scale < (energies(updates) / dim).sqrt(), scale, 0)
    return _with(public, _from_bits(_bits(scale)).to(public.scale.device))


def prepend_scales(payloads: list[bytes], public: Public) -> list[bytes]:
    """Puts two bytes of scale before each of the payloads that were made with the scales of `public`."""
    scales = _bits(public.scale)
    return [scale.tobytes() + body for scale, body in zip(scales, payloads, strict=True)]


def split_scales(payloads: list[bytes], public: Public) -> tuple[list[bytes], Public]:
    """Undoes `prepend_scales`: returns the payloads without scales, and `public` with them.

    Raises:
        PayloadError: a payload does not start with a scale, or there is not one per client.
    """
    check_count(payloads, public)
    for payload, client in zip(payloads, public.clients, strict=True):
        if len(payload) < _SCALE_BYTES:
            with from_client(client):
                raise PayloadError(
                    f"got {len(payload)} bytes; expected {_SCALE_BYTES} of a scale and more"
                )
    bits = np.frombuffer(b"".join(payload[:_SCALE_BYTES] for payload in payloads), "<u2")
    scale = _from_bits(bits)
    for each, client in zip(scale.tolist(), public.clients, strict=True):
        if not 0 <= each < inf:
            with from_client(client):
                raise PayloadError(f"got a scale of {each}; expected one of at least 0, finite")
    bodies = [payload[_SCALE_BYTES:] for payload in payloads]
    return bodies, _with(public, scale.to(public.scale.device))


def _with(public: Public, scale: Tensor) -> Public:
    return replace(public, scale=scale, sketches=None)


def _bits(scale: Tensor) -> np.ndarray:
    """Rounds scales `[clients]` up to bfloat16, and returns them as 16-bit integers."""
    words = scale.float().cpu().numpy().view("<u4")
    return ((words + np.uint32(0xFFFF)) >> np.uint32(16)).astype("<u2")


def _from_bits(bits: np.ndarray) -> Tensor:
    return torch.from_numpy((bits.astype("<u4") << np.uint32(16)).view("<f4").copy())
