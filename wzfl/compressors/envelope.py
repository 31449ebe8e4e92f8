"""Frames around payloads, made and opened, for all clients at once."""

from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import accumulate

from torch import Tensor

from wzfl.compressors import Compressor
from wzfl.compressors.float32 import float32_rows
from wzfl.compressors.inputs import LARGEST_FLOAT32, checked, dim_of, shaped
from wzfl.errors import InputError, PayloadError, from_client
from wzfl.fast_frames import are_undamaged, framed_floats, framed_parts, unframed_floats
from wzfl.frame import check, framed, unframed
from wzfl.host import Arrivals, to_host
from wzfl.public import Public


def seal_floats(compressor: Compressor, updates: Tensor, public: Public) -> list[bytes]:
    """One framed payload per update, which is `checked` to be finite: its float32 values are the body."""
    updates = shaped(updates, public)
    agreed = _agreed(compressor, public)
    payloads = framed_floats(updates, LARGEST_FLOAT32, compressor.wire_id, agreed)
    if payloads is not None:
        return payloads
    bodies = [row.data for row in to_host(checked(updates, public, LARGEST_FLOAT32))]
    return seal_rows(compressor, bodies, updates.shape[1], public)


def open_floats(
    compressor: Compressor, payloads: Sequence[bytes], side: Tensor, public: Public
) -> Tensor:
    """The updates that `seal_floats` sealed, shaped as `side` and on its device, or a `PayloadError`."""
    dim = dim_of(side, public)
    bodies = unchecked_rows(compressor, payloads, dim, public)
    rows = unframed_floats(payloads, dim, _agreed(compressor, public), side.device)
    if rows is not None:
        return rows
    check_rows(compressor, payloads, public)
    check_sizes(bodies, [4 * dim] * len(bodies), public.clients)
    return float32_rows(bodies, side.device, public.clients)


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
    """One framed payload per body, which is in parts; `arrivals` waits for parts still being copied."""
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
    """The bodies of payloads that may be damaged: `check_rows` is to be called before that matters."""
    check_count(payloads, public)
    bodies = []
    for payload, client in zip(payloads, public.clients, strict=True):
        with from_client(client):
            bodies.append(unframed(payload, compressor.wire_id, dim))
    return bodies


def check_count(payloads: Sequence[bytes], public: Public) -> None:
    """Raises `InputError` unless payloads are listed, and `PayloadError` unless there is one per client."""
    if not isinstance(payloads, Sized):
        raise InputError(
            f"payloads must be a list, one per client; got {type(payloads).__name__}: list them"
        )
    if len(payloads) != len(public.clients):
        raise PayloadError(f"got {len(payloads)} payloads for {len(public.clients)} clients")


def check_rows(compressor: Compressor, payloads: Sequence[bytes], public: Public) -> None:
    """Raises a `PayloadError` that names the client whose payload is not as it was made."""
    agreed = _agreed(compressor, public)
    if are_undamaged(payloads, agreed):
        return
    for payload, client, known in zip(payloads, public.clients, agreed, strict=True):
        with from_client(client):
            check(payload, known)


def open_parts(
    compressor: Compressor,
    payloads: Sequence[bytes],
    sizes: Sequence[int],
    dim: int,
    public: Public,
) -> list[list[memoryview]]:
    """The parts of bodies, each of its size in bytes, as a list of all rows per part; or a `PayloadError`."""
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
    """The parts as `open_parts` gives them, unchecked; and a check to call before damage matters."""
    bodies = unchecked_rows(compressor, payloads, dim, public)
    check = partial(check_rows, compressor, payloads, public)
    try:
        check_sizes(bodies, [sum(sizes)] * len(bodies), public.clients)
    except PayloadError:
        check()  # says whose payload is damaged, if one is
        raise
    return split(bodies, sizes), check


def check_sizes(
    bodies: Sequence[memoryview], expected: Sequence[int], clients: Sequence[int] | None = None
) -> None:
    """Raises `PayloadError` unless every body has its expected number of bytes.

    It names the client, if it is told the `clients`.
    """
    for row, (body, size) in enumerate(zip(bodies, expected, strict=True)):
        if len(body) != size:
            with nullcontext() if clients is None else from_client(clients[row]):
                raise PayloadError(f"got a body of {len(body)} bytes; expected {size}")


def check_starts(bodies: Sequence[memoryview], size: int, clients: Sequence[int]) -> None:
    """Raises a `PayloadError` that names the client whose body is of less than `size` bytes."""
    for body, client in zip(bodies, clients, strict=True):
        if len(body) < size:
            with from_client(client):
                raise PayloadError(f"got a body of {len(body)} bytes; expected over {size}")


def split(bodies: Sequence[memoryview], sizes: Sequence[int]) -> list[list[memoryview]]:
    """For each size, that many bytes of every body, one after the other."""
    ends = list(accumulate(sizes))
    return [[b[end - size : end] for b in bodies] for size, end in zip(sizes, ends, strict=True)]


def _agreed(compressor: Compressor, public: Public) -> list[bytes]:
    """For each client what it and the server must both know: settings, and its row of `Public`."""
    settings = settings_text(compressor)
    return [settings + fingerprint for fingerprint in public.fingerprints()]


def settings_text(compressor: Compressor, apart: str = "") -> bytes:
    """The hyperparameters as text, the one called `apart` left out; 2 and 2.0 are the same."""
    assert is_dataclass(compressor)
    pairs = []
    for field in fields(compressor):
        if field.name == apart:
            continue
        value = getattr(compressor, field.name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        pairs.append(f"{field.name}={float(value) if number else value}")
    return ";".join(pairs).encode()
