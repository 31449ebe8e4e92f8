"""What encoder and decoder both know before anything is sent, and the randomness they share.

Shared randomness is 64-bit integer arithmetic on (seed, round, client, purpose, position), so that
it is the same on every device and in every process, and costs no state.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import gcd, inf
from operator import index

import numpy as np
import torch
from torch import Tensor

from wzfl import gpu
from wzfl.errors import InputError
from wzfl.host import numbers_to_device
from wzfl.kernels import draws
from wzfl.plain_tensor import plain

# SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): increment and multipliers, as signed 64-bit integers.
_INCREMENT = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)

_NOBODY = -2  # in place of a client's id; -1 is the server

_SIGNS_OF_BYTE = (((torch.arange(256)[:, None] >> torch.arange(8)) & 1) * 2 - 1).float()


@dataclass(frozen=True, eq=False)
class Public:
    """What both ends know of a round; row i of every `[clients, dim]` tensor belongs to `clients[i]`.

    Attributes:
        seed: seed of the run.
        round: round number.
        clients: ids of the clients, in the order of the rows.
        scale: `[clients]` float32, the RMS per coordinate of (update - side information) that the
            server plans for and has broadcast. 0 means that it plans nothing: a client then
            normalises by its own RMS and pays for saying so. The tensor's device is where shared
            randomness is drawn.
        plans: bytes per client that the server has broadcast to it for a compressor that is `Planned`;
            empty where there is no plan.
        sketches: `[clients, size]` float32, what the server has broadcast for clients to measure their
            scale by (`measured_scale`); None where it has not. Compressors are given scales instead.
        wrapper: what wraps the compressor, with its settings, where something does; see `within`.

    Raises:
        InputError: there is no client; seed, round or an id is not an integer of 64 bits; scales, plans
            or sketches do not match the clients; a scale is negative or not finite; or a plan is not bytes.
    """

    seed: int
    round: int
    clients: tuple[int, ...]
    scale: Tensor = None  # type: ignore[assignment]  # None becomes zeros below
    plans: tuple[bytes, ...] = ()
    sketches: Tensor | None = None
    wrapper: bytes = b""
    _scales: list[float] = field(init=False, repr=False)
    _version: int = field(init=False, repr=False)  # of `scale`, when it had those
    _keys: dict[tuple[str, ...], Tensor] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        seed, round, clients = self._integers()
        if not clients:
            raise InputError(
                "Public is of at least one client; got none, of whom nothing is to code"
            )
        scale, scales = _checked_scale(self.scale, len(clients))
        plans = _checked_plans(self.plans, len(clients))
        sketches = _checked_sketches(self.sketches, len(clients))
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "round", round)
        object.__setattr__(self, "plans", plans)
        object.__setattr__(self, "clients", clients)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "sketches", sketches)
        object.__setattr__(self, "_scales", scales)
        object.__setattr__(self, "_version", scale._version)

    def _integers(self) -> tuple[int, int, tuple[int, ...]]:
        """Seed, round and ids as Python's own: a checksum holds 64 bits of each, draws hold its text."""
        try:
            numbers = (self.seed, self.round, *self.clients)
            seed, round, *clients = map(index, numbers)
            struct.pack(f"{len(numbers)}q", seed, round, *clients)
        except (TypeError, struct.error):
            got = list(self.clients) if isinstance(self.clients, Iterable) else self.clients
            raise InputError(
                "Public's seed, round and clients are integers from -2**63 to 2**63 - 1; got seed"
                f" {self.seed!r}, round {self.round!r}, clients {got!r:.80}: number what has another name"
                " and list the clients, be it a single one"
            ) from None
        return seed, round, tuple(clients)

    def to(self, device: torch.device | str) -> "Public":
        sketches = None if self.sketches is None else self.sketches.to(device)
        return replace(self, scale=self.scale.to(device), sketches=sketches)

    def rows(self, rows: slice | Sequence[int]) -> "Public":
        """What the clients of these rows alone would know, in the order of `rows`.

        Raises:
            InputError: these are not rows.
        """
        if isinstance(rows, slice) and rows == slice(0, len(self.clients)):
            return self
        numbers = _row_numbers(rows, len(self.clients))
        forwards = isinstance(rows, slice) and (rows.step or 1) > 0  # else torch takes no slice
        own = rows if forwards else numbers
        return replace(
            self,
            clients=tuple(self.clients[row] for row in numbers),
            scale=self.scale[own],
            plans=tuple(self.plans[row] for row in numbers),
            sketches=None if self.sketches is None else self.sketches[own],
        )

    def alone(self) -> "Public":
        """What is left where nothing is expected of these clients."""
        return replace(self, scale=torch.zeros_like(self.scale), plans=(), sketches=None)

    def common(self, clients: int) -> "Public":
        """What is shared with all: as many rows, each with the randomness of no client in particular."""
        nobody = (_NOBODY,) * clients
        scale = self.scale.new_zeros(clients)
        return replace(self, clients=nobody, scale=scale, plans=(), sketches=None)

    def within(self, wrapper: bytes) -> "Public":
        """The same round, scales and randomness, for payloads that only the same wrapper's decoder reads."""
        known = copy(self)  # `replace` would ask a GPU for its scales
        object.__setattr__(known, "wrapper", self.wrapper + wrapper)
        return known

    def keys(self, purpose: str) -> np.ndarray:
        """`[clients]` uint64: where each client's stream of random words starts."""
        digests = [self._digest(purpose, client, 8) for client in self.clients]
        return np.frombuffer(b"".join(digests), dtype="<u8")

    def keys_on_device(self, *purposes: str) -> Tensor:
        """`[purposes * clients]` int64: `keys` of one purpose after the other, on the device of `scale`."""
        if purposes not in self._keys:
            keys = np.concatenate([self.keys(purpose) for purpose in purposes]).astype(np.int64)
            self._keys[purposes] = numbers_to_device(keys, self.scale.device)
        return self._keys[purposes]

    def uniform(self, purpose: str, dim: int) -> Tensor:
        """`[clients, dim]` float32 in [0, 1), multiples of 2**-24."""
        if gpu.is_usable(self.scale.device, dim):
            from wzfl.gpu import draws as on_gpu

            return on_gpu.uniform(self.keys_on_device(purpose), dim)
        return self._each_row(purpose, dim, draw_uniform, lambda key, row: draws.uniform(key, row))

    def signs(self, purpose: str, dim: int) -> Tensor:
        """`[clients, dim]` float32 in {-1, +1}."""
        if gpu.is_usable(self.scale.device, dim):
            from wzfl.gpu import draws as on_gpu

            return on_gpu.signs(self.keys_on_device(purpose), dim)
        return self._each_row(
            purpose, dim, draw_signs, lambda key, row: draws.signs(key, row.view(np.uint32))
        )

    def subset(self, purpose: str, dim: int, count: int) -> Tensor:
        """`[clients, count]` int64, distinct coordinates, each of `dim` equally likely to be there.

        An arithmetic progression modulo `dim`: as it starts at a uniform place, any linear
        estimator that divides by count/dim is exactly unbiased, and it costs no sort.
        """
        rows = torch.empty(len(self.clients), count, dtype=torch.int64, device=self.scale.device)
        for client, row in zip(self.clients, rows, strict=True):
            start, stride = struct.unpack("<QQ", self._digest(purpose, client, 16))
            stride = stride % dim
            while gcd(stride, dim) != 1:
                stride += 1
            start, stride = start % dim, stride % dim
            if row.is_cpu:
                draws.progression(start, stride, dim, row.numpy())
            else:
                row.copy_((torch.arange(count, device=row.device) * stride + start) % dim)
        return rows

    def fingerprints(self) -> list[bytes]:
        """One string per client that differs whenever seed, round, client, scale, plan or wrapper differ."""
        return [
            struct.pack("<qqqf", self.seed, self.round, client, scale) + plan + self.wrapper
            for client, scale, plan in zip(self.clients, self._numbers(), self.plans, strict=True)
        ]

    @property
    def has_scale(self) -> list[bool]:
        """For each client whether the server plans a scale for it."""
        return [scale > 0 for scale in self._numbers()]

    def _numbers(self) -> list[float]:
        """The scales as they are now; a GPU is asked for them only where somebody has changed them."""
        if self.scale.is_cpu or self.scale._version != self._version:
            return self.scale.tolist()
        return self._scales

    def _digest(self, purpose: str, client: int, size: int) -> bytes:
        text = f"{self.seed}/{self.round}/{client}/{purpose}".encode()
        return hashlib.blake2b(text, digest_size=size).digest()

    def _each_row(
        self,
        purpose: str,
        dim: int,
        draw: Callable[[Tensor, int], Tensor],
        fill: Callable[[np.uint64, np.ndarray], None],
    ) -> Tensor:
        """Rows by torch's `draw`, or on a CPU by the compiled `fill`, which gives the same."""
        rows = torch.empty(len(self.clients), dim, dtype=torch.float32, device=self.scale.device)
        first_of: dict[int, int] = {}
        for row, (client, key) in enumerate(zip(self.clients, self.keys(purpose), strict=True)):
            first = first_of.setdefault(client, row)
            if first < row:
                rows[row] = rows[first]
            elif rows.is_cpu:
                fill(key, rows[row].numpy())
            else:
                rows[row] = draw(torch.tensor(key.astype(np.int64), device=rows.device), dim)
        return rows


def _row_numbers(rows: slice | Sequence[int], count: int) -> list[int]:
    """Which of `count` rows are meant, or an `InputError`."""
    try:
        if isinstance(rows, slice):
            return list(range(count)[rows])
        numbers = rows.tolist() if isinstance(rows, Tensor | np.ndarray) else list(rows)
        if bool in map(type, numbers):
            raise TypeError
        return [range(count)[row] for row in numbers]
    except (TypeError, IndexError, ValueError):
        raise InputError(
            f"rows must be a slice or a list of numbers below {count}, the clients; got {rows!r:.80}:"
            " write [row] for a single one"
        ) from None


def _checked_scale(scale: Tensor | None, clients: int) -> tuple[Tensor, list[float]]:
    """The scale as `[clients]` float32, zeros for None, and its numbers; or an `InputError`."""
    if scale is None:
        scale = torch.zeros(clients, dtype=torch.float32)
    if not isinstance(scale, Tensor):
        raise InputError(f"Public.scale must be a torch tensor, a number per client; got {scale!r}")
    if scale.is_complex():
        raise InputError(f"Public.scale must be real; got {scale.dtype}")
    with torch.inference_mode(False):  # else it would not count how often it is changed
        # A copy: whoever made it may go on to change it.
        scale = plain("Public.scale", scale).detach().float().clone()
    scales = scale.tolist()  # once: to ask a GPU is to wait until it has done all its work
    if scale.shape != (clients,) or not all(0 <= each < inf for each in scales):
        raise InputError(
            f"Public.scale must be {clients} finite numbers of at least 0, one per client;"
            f" got {tuple(scale.shape)}: {scale.flatten()[:5].tolist()}"
        )
    return scale, scales


def _checked_sketches(sketches: Tensor | None, clients: int) -> Tensor | None:
    """The sketches, one per client, or None where there are none; or an `InputError`."""
    if sketches is None:
        return None
    if not isinstance(sketches, Tensor) or not sketches.is_floating_point() or sketches.ndim != 2:
        raise InputError(
            f"Public.sketches must be a torch tensor, floating point [clients, size]; got {sketches!r:.80}"
        )
    if len(sketches) != clients:
        raise InputError(
            f"Public.sketches must be one per client; got {len(sketches)} for {clients} clients"
        )
    return plain("Public.sketches", sketches)


def _checked_plans(plans: tuple[bytes, ...], clients: int) -> tuple[bytes, ...]:
    """The plans, one per client, empty ones where there are none; or an `InputError`."""
    plans = tuple(plans) or (b"",) * clients
    if set(map(type, plans)) - {bytes}:
        raise InputError(
            f"Public.plans must be bytes, as a planned compressor's plan() gives them; got {plans!r:.80}"
        )
    if len(plans) != clients:
        raise InputError(
            f"Public.plans must be one per client or none; got {len(plans)} for {clients} clients"
        )
    return plans


def stable_seed(*parts: object) -> int:
    """A 63-bit seed that depends on the parts' text alone, on every machine and in every process."""
    text = "/".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


@lru_cache(maxsize=8)
def permutation(count: int) -> Tensor:
    """`[count]` int64, the same always and everywhere."""
    return torch.from_numpy(np.argsort(draws.words(np.uint64(count), count), kind="stable"))


def _words(key: Tensor, count: int) -> Tensor:
    """`[count]` int64: SplitMix64 from the state `key`."""
    word = torch.arange(1, count + 1, device=key.device).mul_(_INCREMENT).add_(key)
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        word = word.bitwise_xor_(_shift_right(word, shift)).mul_(multiplier)
    return word.bitwise_xor_(_shift_right(word, 31))


def _shift_right(word: Tensor, shift: int) -> Tensor:
    """The logical shift of an unsigned word; torch's shift of int64 repeats the sign bit."""
    return (word >> shift).bitwise_and_((1 << (64 - shift)) - 1)


def draw_uniform(key: Tensor, dim: int) -> Tensor:
    """`[dim]` float32 in [0, 1), multiples of 2**-24, from a scalar int64 `key`."""
    halves = _words(key, (dim + 1) // 2).view(torch.int32)[:dim]
    return (halves >> 8).bitwise_and_(2**24 - 1).float().mul_(2.0**-24)


def draw_signs(key: Tensor, dim: int) -> Tensor:
    """`[dim]` float32 in {-1, +1}, from a `key` as that of `draw_uniform`."""
    octets = _words(key, (dim + 63) // 64).view(torch.uint8)[: (dim + 7) // 8]
    return _SIGNS_OF_BYTE.to(key.device).index_select(0, octets.int()).view(-1)[:dim]
