"""The frame around every payload.

    | version 1 B | codec 1 B | dim 4 B | body ... | CRC-32 4 B |

The checksum runs over the frame and, unsent, over everything that both ends must agree on to read
it: the compressor's settings and the client's row of `Public`. A payload of another round, client,
scale or yaml is refused like a damaged one.
"""

import struct
import zlib

from wzfl.errors import PayloadError

VERSION = 3
_HEADER = struct.Struct("<BBI")
_CHECKSUM = struct.Struct("<I")
OVERHEAD_BYTES = _HEADER.size + _CHECKSUM.size


def seal(body: bytes | memoryview, codec: int, dim: int, agreed: bytes) -> bytes:
    """The payload that carries `body`; `agreed` is what the decoder must know as well."""
    header = _HEADER.pack(VERSION, codec, dim)
    checksum = zlib.crc32(agreed, zlib.crc32(body, zlib.crc32(header)))
    return b"".join([header, body, _CHECKSUM.pack(checksum)])


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
    expected = zlib.crc32(agreed, zlib.crc32(framed))
    if checksum != expected:
        raise PayloadError(
            f"got checksum {checksum:08x}, expected {expected:08x}: the payload is damaged, or was"
            " made for another client, round, scale or compressor setting"
        )
    return framed[_HEADER.size :]
