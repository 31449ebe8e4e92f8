import struct

import pytest
import xxhash

from wzfl import PayloadError
from wzfl.frame import OVERHEAD_BYTES, VERSION, check, framed, unframed

BODY, AGREED = b"some body", b"agreed"


def seal(body, codec, dim, agreed):
    (payload,) = framed([body], codec, dim, [agreed])
    return payload


def unseal(payload, codec, dim, agreed):
    body = unframed(payload, codec, dim)
    check(payload, agreed)
    return body


@pytest.fixture
def payload():
    return seal([BODY[:4], BODY[4:]], codec=3, dim=70_000, agreed=AGREED)


def test_a_frame_takes_ten_bytes_and_opens(payload):
    assert len(payload) == len(BODY) + OVERHEAD_BYTES
    assert OVERHEAD_BYTES == 10
    assert bytes(unseal(payload, 3, 70_000, AGREED)) == BODY


def test_the_layout_is_the_documented_one(payload):
    frame = struct.pack("<BBI", VERSION, 3, 70_000) + BODY
    checksum = xxhash.xxh3_64(frame + AGREED).intdigest() % 2**32
    assert payload == frame + struct.pack("<I", checksum)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_an_empty_body_in_any_kind_of_bytes_opens(kind):
    empty = kind(seal([], 3, 0, b""))
    assert len(empty) == OVERHEAD_BYTES
    assert bytes(unseal(empty, 3, 0, b"")) == b""


@pytest.mark.parametrize(
    "view",
    [
        memoryview(bytes(80))[::2],
        memoryview(bytes(80)).cast("f"),
        memoryview(bytes(80)).cast("B", (40, 2)),
        memoryview(b"x").cast("B", ()),
    ],
    ids=["with gaps", "of floats", "of two dimensions", "of none"],
)
def test_a_memoryview_of_something_else_is_none(view):
    message = r"^a payload is bytes; got a memoryview of something else$"
    with pytest.raises(PayloadError, match=message):
        unseal(view, 3, 0, b"")


@pytest.mark.parametrize("format", ["B", "b", "c", "?"])
def test_a_body_is_of_numbers_from_0_to_255_whatever_a_view_takes_its_bytes_for(format):
    body = unseal(memoryview(seal([b"\xff"], 3, 0, b"")).cast(format), 3, 0, b"")
    assert body[0] == 255


def test_every_flipped_bit_is_noticed(payload):
    for position in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(PayloadError, match=r"got .* expect"):
            unseal(bytes(damaged), 3, 70_000, AGREED)


def test_every_truncation_is_noticed(payload):
    for length in range(len(payload)):
        with pytest.raises(PayloadError, match="got"):
            unseal(payload[:length], 3, 70_000, AGREED)
    with pytest.raises(PayloadError, match="got 9 bytes; a frame alone takes 10"):
        unseal(payload[:9], 3, 70_000, AGREED)


@pytest.mark.parametrize(
    ("codec", "dim", "agreed", "message"),
    [
        (4, 70_000, AGREED, "got codec 3; this decoder expects 4"),
        (3, 70_001, AGREED, "got dim 70000; this decoder expects 70001"),
        (
            3,
            70_000,
            b"else",
            "damaged, or was made for another client, round, scale or .* setting$",
        ),
    ],
)
def test_a_foreign_payload_is_refused(payload, codec, dim, agreed, message):
    with pytest.raises(PayloadError, match=message):
        unseal(payload, codec, dim, agreed)


def test_another_version_is_named(payload):
    with pytest.raises(PayloadError, match=f"got version 3; this decoder expects {VERSION}"):
        unseal(b"\3" + payload[1:], 3, 70_000, AGREED)


def test_a_payload_is_bytes():
    with pytest.raises(PayloadError, match="a payload is bytes; got list"):
        unseal([1, 2], 3, 4, AGREED)
