"""What every compressor does around its own format: check what comes in, seal what goes out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from wzfl.compressors import Compressor
from wzfl.errors import InputError, PayloadError
from wzfl.fast_frames import are_undamaged, framed_floats, framed_parts, unframed_floats
from wzfl.frame import check, framed, unframed
from wzfl.host import Arrivals, ask, to_device, to_host
from wzfl.norms import largest_magnitudes
from wzfl.public import Public

LOWEST_BITRATE, HIGHEST_BITRATE = 0.02, 16.0


def check_bitrate(name: str, bitrate: float, lowest: float, highest: float) -> None:
    """Raises `InputError` unless `lowest <= bitrate <= highest`."""
    if not lowest <= bitrate <= highest:
        raise InputError(
            f"bitrate={bitrate} is out of range for {name}: it takes {lowest} to {highest} bits per"
            " coordinate"
        )


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises `InputError` unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def checked(updates: Tensor, public: Public) -> Tensor:
    """The updates as finite float32 `[clients, dim]`, or an `InputError`."""
    updates, check = unchecked(updates, public)
    check()
    return updates


def unchecked(updates: Tensor, public: Public) -> tuple[Tensor, Callable[[], None]]:
    """As `checked`, but a GPU goes on; what comes with them says what is wrong, before payloads go out."""
    updates = _shaped(updates, public)
    told = ask(largest_magnitudes(updates))

    def check() -> None:
        wrong = ~np.isfinite(told())
        if wrong.any():
            raise InputError(
                f"the update of client {public.clients[int(wrong.argmax())]} holds NaN or infinity (or"
                " exceeds float32); training diverged? lower the learning rate"
            )

    if updates.is_cpu:
        check()
    return updates, check


def seal_floats(compressor: Compressor, updates: Tensor, public: Public) -> list[bytes]:
    """One framed payload per update, whose body it is, once it is `checked`."""
    updates = _shaped(updates, public)
    payloads = framed_floats(updates, compressor.wire_id, _agreed(compressor, public))
    if payloads is not None:
        return payloads
    bodies = [row.data for row in to_host(checked(updates, public))]
    return seal_rows(compressor, bodies, updates.shape[1], public)


def open_floats(
    compressor: Compressor, payloads: Sequence[bytes], side: Tensor, public: Public
) -> Tensor:
    """The inverse of `seal_floats`, of the shape of `side` and on its device, or a `PayloadError`."""
    dim = dim_of(side, public)
    bodies = unchecked_rows(compressor, payloads, dim, public)
    rows = unframed_floats(payloads, dim, _agreed(compressor, public), side.device)
    if rows is not None:
        return rows
    check_rows(compressor, payloads, public)
    check_sizes(bodies, [4 * dim] * len(bodies))
    return float32_rows(bodies, side.device)


def _shaped(updates: Tensor, public: Public) -> Tensor:
    """As float32 `[clients, dim]`, or an `InputError`."""
    if not isinstance(updates, Tensor):
        raise InputError(
            f"updates must be a torch tensor; got {type(updates).__name__}: torch.as_tensor makes one"
        )
    if updates.ndim != 2 or not updates.is_floating_point() or updates.shape[1] == 0:
        raise InputError(
            f"updates must be floating point [clients, dim], dim at least 1; got"
            f" {updates.dtype} {tuple(updates.shape)}"
        )
    if updates.shape[0] != len(public.clients):
        raise InputError(f"got {updates.shape[0]} updates for {len(public.clients)} clients")
    if updates.device != public.scale.device:
        raise InputError(
            f"updates are on {updates.device}, public on {public.scale.device};"
            " move one of them with .to()"
        )
    return updates.detach().float()


def dim_of(side: Tensor, public: Public) -> int:
    """Coordinates of what a decoder is to estimate, as told by its side information, or an `InputError`."""
    return usable(side, public).shape[1]


def usable(side: Tensor, public: Public) -> Tensor:
    """Side information as floating point `[clients, dim]`, without a graph, or an `InputError`."""
    if not isinstance(side, Tensor):
        raise InputError(
            f"side information must be a torch tensor; got {type(side).__name__}: torch.as_tensor makes one"
        )
    if not side.is_floating_point():
        raise InputError(
            f"side information must be floating point; got {side.dtype}: .float() makes it so"
        )
    if side.ndim != 2 or len(side) != len(public.clients):
        raise InputError(
            f"side information must be [clients, dim], for {len(public.clients)} clients; got"
            f" {tuple(side.shape)}"
        )
    return side.detach()


def seal_rows(
    compressor: Compressor, bodies: Sequence[bytes | memoryview], dim: int, public: Public
) -> list[bytes]:
    """One framed payload per body."""
    return seal_parts(compressor, [(body,) for body in bodies], dim, public)


def seal_parts(
    compressor: Compressor,
    bodies: Iterable[Sequence[bytes | memoryview]],
    dim: int,
    public: Public,
    arrivals: Arrivals | None = None,
) -> list[bytes]:
    """One framed payload per body, which is in parts; of those on their way, these are the `arrivals`."""
    codec, bodies, agreed = compressor.wire_id, list(bodies), _agreed(compressor, public)
    arrivals = arrivals or Arrivals()
    payloads = framed_parts(bodies, codec, dim, agreed, arrivals)
    if payloads is not None:
        return payloads
    for row in range(len(bodies)):
        arrivals.wait(row)
    return framed(bodies, codec, dim, agreed)


def open_rows(
    compressor: Compressor, payloads: Sequence[bytes], dim: int, public: Public
) -> list[memoryview]:
    """The bodies, or a `PayloadError` that names the client."""
    bodies = unchecked_rows(compressor, payloads, dim, public)
    check_rows(compressor, payloads, public)
    return bodies


def unchecked_rows(
    compressor: Compressor, payloads: Sequence[bytes], dim: int, public: Public
) -> list[memoryview]:
    """As `open_rows`, of payloads that may be damaged: `check_rows` is to say so before it matters."""
    if len(payloads) != len(public.clients):
        raise PayloadError(f"got {len(payloads)} payloads for {len(public.clients)} clients")
    bodies = []
    for payload, client in zip(payloads, public.clients, strict=True):
        try:
            bodies.append(unframed(payload, compressor.wire_id, dim))
        except PayloadError as error:
            raise _of(client, error) from None
    return bodies


def check_rows(compressor: Compressor, payloads: Sequence[bytes], public: Public) -> None:
    """Raises `PayloadError` that names the client whose payload is not as it was made."""
    agreed = _agreed(compressor, public)
    if are_undamaged(payloads, agreed):
        return
    for payload, client, known in zip(payloads, public.clients, agreed, strict=True):
        try:
            check(payload, known)
        except PayloadError as error:
            raise _of(client, error) from None


def open_parts(
    compressor: Compressor,
    payloads: Sequence[bytes],
    sizes: Sequence[int],
    dim: int,
    public: Public,
) -> list[list[memoryview]]:
    """For each part of a body, `sizes` bytes long, that of every row; or a `PayloadError`."""
    parts, check = unchecked_parts(compressor, payloads, sizes, dim, public)
    check()
    return parts


def unchecked_parts(
    compressor: Compressor,
    payloads: Sequence[bytes],
    sizes: Sequence[int],
    dim: int,
    public: Public,
) -> tuple[list[list[memoryview]], Callable[[], None]]:
    """As `open_parts`, of payloads that may be damaged; and what is to say so before it matters."""
    bodies = unchecked_rows(compressor, payloads, dim, public)
    check = partial(check_rows, compressor, payloads, public)
    try:
        check_sizes(bodies, [sum(sizes)] * len(bodies))
    except PayloadError:
        check()  # says whose payload is damaged, if one is
        raise
    return split(bodies, sizes), check


def check_sizes(bodies: Sequence[memoryview], expected: Sequence[int]) -> None:
    """Raises `PayloadError` unless every body has its expected number of bytes."""
    for body, size in zip(bodies, expected, strict=True):
        if len(body) != size:
            raise PayloadError(f"got a body of {len(body)} bytes; expected {size}")


def split(bodies: Sequence[memoryview], sizes: Sequence[int]) -> list[list[memoryview]]:
    """For each size, that many bytes of every body, one after the other."""
    ends = list(accumulate(sizes))
    return [[b[end - size : end] for b in bodies] for size, end in zip(sizes, ends, strict=True)]


def float32_bytes(values: Tensor) -> list[bytes]:
    """One string per row of `values` `[clients, ...]`, little-endian float32."""
    return ask_bytes(values)()


def ask_bytes(values: Tensor) -> Callable[[], list[bytes]]:
    """Starts to copy values to the host; what returns gives them as `float32_bytes`."""
    told = ask(values.float())
    return lambda: [row.tobytes() for row in told().astype("<f4", copy=False)]


def float32_rows(bodies: Sequence[bytes | memoryview], device: torch.device) -> Tensor:
    """The inverse of `float32_bytes`.

    Raises:
        PayloadError: a value is not finite, which no encoder sends.
    """
    rows = to_device(bodies, device).view(torch.float32)
    if not np.isfinite(to_host(largest_magnitudes(rows))).all():
        raise PayloadError("got a value that is NaN or infinite; expected finite float32")
    return rows


def finite(
    estimates: Tensor,
    public: Public,
    meanwhile: Callable[[], None] | None = None,
    side: Tensor | None = None,
) -> Tensor:
    """The estimates `[clients, dim]` as they are; `meanwhile` is done while a GPU computes them.

    `side` is what they were made with, if it can be to blame.

    Raises:
        InputError: one is not finite, as the side information is not.
        PayloadError: one is not finite, as a forged scale can make it.
    """
    told = ask(largest_magnitudes(estimates))
    if meanwhile is not None:
        meanwhile()
    wrong = ~np.isfinite(told())
    if wrong.any():
        row = int(wrong.argmax())
        client = public.clients[row]
        if side is not None and not bool(largest_magnitudes(side[[row]]).isfinite()):
            raise InputError(
                f"side information for client {client} holds NaN or infinity (or exceeds float32);"
                " training diverged? decode with zeros"
            )
        raise PayloadError(
            f"payload of client {client}: decodes to values that are NaN or infinite; expected"
            " finite float32"
        )
    return estimates


def _of(client: int, error: PayloadError) -> PayloadError:
    """That says whose payload can not be read."""
    return PayloadError(f"payload of client {client}: {error}")


def _agreed(compressor: Compressor, public: Public) -> list[bytes]:
    """What each client and the server must both know."""
    settings = _settings(compressor)
    return [settings + fingerprint for fingerprint in public.fingerprints()]


def _settings(compressor: Compressor) -> bytes:
    """The hyperparameters as text; 2 and 2.0 are the same."""
    assert is_dataclass(compressor)
    pairs = []
    for field in fields(compressor):
        value = getattr(compressor, field.name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        pairs.append(f"{field.name}={float(value) if number else value}")
    return ";".join(pairs).encode()
