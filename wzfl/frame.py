"""The frame around every payload.

    | version 1 B | codec 1 B | dim 4 B | body ... | checksum 4 B |

The checksum is the low half of XXH3-64 over the frame and, unsent, over everything that both ends must
agree on to read it: the compressor's settings and the client's row of `Public`. A payload of another round,
client, scale or yaml is refused like a damaged one. It guards against accidents, not against forgers.
"""

import struct
from collections.abc import Sequence

import xxhash

from wzfl.errors import PayloadError
from wzfl.memory import joined

VERSION = 4
_HEADER = struct.Struct("<BBI")
_CHECKSUM = struct.Struct("<I")
OVERHEAD_BYTES = _HEADER.size + _CHECKSUM.size


def framed(body: Sequence[bytes | memoryview], codec: int, dim: int, checksum: int) -> bytes:
    """The payload that carries the parts of `body`."""
    return joined([_HEADER.pack(VERSION, codec, dim), *body, _CHECKSUM.pack(checksum)])


def checksum(body: Sequence[bytes | memoryview], codec: int, dim: int, agreed: bytes) -> int:
    """That of the payload that carries `body`; `agreed` is what the decoder must know as well."""
    digest = xxhash.xxh3_64(_HEADER.pack(VERSION, codec, dim))
    for part in (*body, agreed):
        digest.update(part)
    return digest.intdigest() & 0xFFFFFFFF


def unframed(payload: bytes, codec: int, dim: int) -> memoryview:
    """The body of a payload of which `check` is still to be called.

    Raises:
        PayloadError: it is too short, or of another version, codec or dim.
    """
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise PayloadError(f"a payload is bytes; got {type(payload).__name__}")
    if len(payload) < OVERHEAD_BYTES:
        raise PayloadError(f"got {len(payload)} bytes; a frame alone takes {OVERHEAD_BYTES}")
    got = _HEADER.unpack_from(payload)
    for name, value, expected in zip(
        ("version", "codec", "dim"), got, (VERSION, codec, dim), strict=True
    ):
        if value != expected:
            raise PayloadError(f"got {name} {value}; this decoder expects {expected}")
    return memoryview(payload)[_HEADER.size : -_CHECKSUM.size]


def check(payload: bytes, codec: int, dim: int, agreed: bytes) -> None:
    """Raises `PayloadError` unless the payload is as it was made, by an encoder that agrees.

    Else it is damaged, or was made for another client, round, scale or compressor setting.
    """
    (got,) = _CHECKSUM.unpack(memoryview(payload)[-_CHECKSUM.size :])
    expected = checksum([unframed(payload, codec, dim)], codec, dim, agreed)
    if got != expected:
        raise PayloadError(
            f"got checksum {got:08x}, expected {expected:08x}: the payload is damaged, or was"
            " made for another client, round, scale or compressor setting"
        )
