"""The frame around every payload.

    | version 1 B | codec 1 B | dim 4 B | body ... | checksum 4 B |

The checksum is the low half of XXH3-64 over the frame and, unsent, over everything that both ends must
agree on to read it: settings, also those of what wraps the compressor, and the client's row of `Public`. A
payload of another round, client, scale or yaml is refused like a damaged one. It guards against accidents,
not against forgers.
"""

import struct
from collections.abc import Iterable, Sequence

import xxhash

from wzfl.errors import PayloadError

VERSION = 4
_HEADER = struct.Struct("<BBI")
_CHECKSUM = struct.Struct("<I")
CHECKSUM_BYTES = _CHECKSUM.size
OVERHEAD_BYTES = _HEADER.size + CHECKSUM_BYTES


def framed(
    bodies: Sequence[Sequence[bytes | memoryview]], codec: int, dim: int, agreed: Sequence[bytes]
) -> list[bytes]:
    """The payloads that carry the bodies, each of which is in parts.

    `agreed` is what each row's decoder must know as well.
    """
    start, payloads = header(codec, dim), []
    for body, known in zip(bodies, agreed, strict=True):
        checksum = _CHECKSUM.pack(_checksum([start, *body, known]))
        payloads.append(b"".join([start, *body, checksum]))
    return payloads


def header(codec: int, dim: int) -> bytes:
    """Version, codec and dim, which come before the body."""
    return _HEADER.pack(VERSION, codec, dim)


def unframed(payload: bytes, codec: int, dim: int) -> memoryview:
    """The body of a payload of which `check` is still to be called.

    Raises:
        PayloadError: it is too short, or of another version, codec or dim.
    """
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise PayloadError(f"a payload is bytes; got {type(payload).__name__}")
    whole = memoryview(payload)
    if not (whole.contiguous and whole.ndim == whole.itemsize == 1):
        raise PayloadError("a payload is bytes; got a memoryview of something else")
    whole = whole.cast("B")  # a view may take its bytes for signed numbers, or characters
    if len(whole) < OVERHEAD_BYTES:
        raise PayloadError(f"got {len(whole)} bytes; a frame alone takes {OVERHEAD_BYTES}")
    got = _HEADER.unpack_from(whole)
    for name, value, expected in zip(
        ("version", "codec", "dim"), got, (VERSION, codec, dim), strict=True
    ):
        if value != expected:
            raise PayloadError(f"got {name} {value}; this decoder expects {expected}")
    return whole[_HEADER.size : -_CHECKSUM.size]


def check(payload: bytes, agreed: bytes) -> None:
    """Raises `PayloadError` unless an encoder that knew `agreed` made the payload, which has a body.

    Else it is damaged, or was made for another client, round, scale or compressor setting.
    """
    whole = memoryview(payload)
    (got,) = _CHECKSUM.unpack(whole[-_CHECKSUM.size :])
    expected = _checksum([whole[: -_CHECKSUM.size], agreed])
    if got != expected:
        raise PayloadError(
            f"got checksum {got:08x}, expected {expected:08x}: the payload is damaged, or was"
            " made for another client, round, scale or compressor setting"
        )


def _checksum(parts: Iterable[bytes | memoryview]) -> int:
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.intdigest() & 0xFFFFFFFF
