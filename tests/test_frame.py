import pytest

from wzfl import PayloadError
from wzfl.frame import OVERHEAD_BYTES, seal, unseal

BODY, AGREED = b"some body", b"agreed"
PAYLOAD = seal(BODY, codec=3, dim=70_000, agreed=AGREED)


def test_a_frame_takes_ten_bytes_and_opens():
    assert len(PAYLOAD) == len(BODY) + OVERHEAD_BYTES
    assert OVERHEAD_BYTES <= 16
    assert bytes(unseal(PAYLOAD, 3, 70_000, AGREED)) == BODY


def test_every_flipped_bit_is_noticed():
    for position in range(8 * len(PAYLOAD)):
        damaged = bytearray(PAYLOAD)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(PayloadError, match=r"got .* expect"):
            unseal(bytes(damaged), 3, 70_000, AGREED)


@pytest.mark.parametrize("length", range(len(PAYLOAD)))
def test_every_truncation_is_noticed(length):
    with pytest.raises(PayloadError):
        unseal(PAYLOAD[:length], 3, 70_000, AGREED)


@pytest.mark.parametrize(
    ("codec", "dim", "agreed", "message"),
    [
        (4, 70_000, AGREED, "got codec 3; this decoder expects 4"),
        (3, 70_001, AGREED, "got dim 70000; this decoder expects 70001"),
        (3, 70_000, b"else", "another client, round, scale"),
    ],
)
def test_a_foreign_payload_is_refused(codec, dim, agreed, message):
    with pytest.raises(PayloadError, match=message):
        unseal(PAYLOAD, codec, dim, agreed)


def test_a_payload_is_bytes():
    with pytest.raises(PayloadError, match="a payload is bytes; got list"):
        unseal([1, 2], 3, 4, AGREED)
