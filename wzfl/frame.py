"""The frame around every payload.

    | version 1 B | codec 1 B | dim 4 B | body ... | checksum 4 B |

The checksum is the low half of XXH3-64 over the frame and, unsent, over everything that both ends must
agree on to read it: the compressor's settings and the client's row of `Public`. A payload of another round,
client, scale or yaml is refused like a damaged one. It guards against accidents, not against forgers.
"""

import struct

import xxhash

from wzfl.errors import PayloadError

VERSION = 4
_HEADER = struct.Struct("<BBI")
_CHECKSUM = struct.Struct("<I")
OVERHEAD_BYTES = _HEADER.size + _CHECKSUM.size


def seal(body: bytes | memoryview, codec: int, dim: int, agreed: bytes) -> bytes:
    """The payload that carries `body`; `agreed` is what the decoder must know as well."""
    header = _HEADER.pack(VERSION, codec, dim)
    return b"".join([header, body, _CHECKSUM.pack(_checksum(header, body, agreed))])


def unseal(payload: bytes, codec: int, dim: int, agreed: bytes) -> memoryview:
    """The body of a payload.

    Raises:
        PayloadError: it is too short, of another version, codec or dim, damaged, or was made for
            another client, round, scale or compressor setting.
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
    view = memoryview(payload)
    framed, (checksum,) = view[: -_CHECKSUM.size], _CHECKSUM.unpack(view[-_CHECKSUM.size :])
    expected = _checksum(framed, agreed)
    if checksum != expected:
        raise PayloadError(
            f"got checksum {checksum:08x}, expected {expected:08x}: the payload is damaged, or was"
            " made for another client, round, scale or compressor setting"
        )
    return framed[_HEADER.size :]


def _checksum(*parts: bytes | memoryview) -> int:
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return digest.intdigest() & 0xFFFFFFFF
