"""Payloads are the same, and refused for the same, whether or not they are written in one pass."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import wzfl.fast_frames
from wzfl import InputError, PayloadError
from wzfl.compressors.envelope import seal_parts
from wzfl.compressors.inputs import LARGEST_FLOAT32
from wzfl.compressors.uncompressed import Uncompressed
from wzfl.fast_frames import are_undamaged, framed_parts
from wzfl.frame import OVERHEAD_BYTES, framed
from wzfl.host import Arrivals
from wzfl.kernels.frames import CAN_SUM

DIMS = [1, 2, 4095, 4096, 4097, 20_000]
CODEC = Uncompressed()


@pytest.fixture(params=[True, False], ids=["one_pass", "step_by_step"])
def one_pass(request, monkeypatch):
    if request.param and not CAN_SUM:
        pytest.skip("this build of xxhash does not show its functions")
    monkeypatch.setattr(wzfl.fast_frames, "CAN_SUM", request.param)
    monkeypatch.setattr(wzfl.fast_frames, "_WORTH_A_THREAD", 1)


def step_by_step(monkeypatch, function):
    with monkeypatch.context() as patch:
        patch.setattr(wzfl.fast_frames, "CAN_SUM", False)
        return function()


def sent(public, dim):
    generator = torch.Generator().manual_seed(dim)
    updates = torch.randn(len(public.clients), dim, generator=generator)
    return updates, CODEC.encode(updates, public), torch.zeros_like(updates)


@pytest.mark.usefixtures("threads", "one_pass")
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("plans", [(), (b"", b"of some", b"lengths")])
def test_payloads_are_those_written_step_by_step(monkeypatch, public, dim, plans):
    public = replace(public, plans=plans)
    updates, payloads, side = sent(public, dim)
    assert payloads == step_by_step(monkeypatch, lambda: CODEC.encode(updates, public))
    assert {len(payload) for payload in payloads} == {4 * dim + OVERHEAD_BYTES}
    assert torch.equal(CODEC.decode(payloads, side, public), updates)
    apart = torch.cat([updates, side], dim=1)[:, :dim]  # in memory, row from row
    assert CODEC.encode(apart, public) == payloads


@pytest.mark.usefixtures("one_pass")
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("place", [0, 4095, 4096, -1])
def test_only_finite_values_are_sent(public, place, value):
    updates, _, _ = sent(public, 5000)
    updates[1, place] = value
    with pytest.raises(InputError, match=r"the update of client 0 holds NaN or infinity"):
        CODEC.encode(updates, public)
    updates[1, place] = -LARGEST_FLOAT32
    assert len(CODEC.encode(updates, public)) == 3


@pytest.mark.usefixtures("one_pass")
def test_the_damaged_payload_is_named(public):
    _, payloads, side = sent(public, 5000)
    for place in (6, 5000, 4 * 5000 + 5, -1):
        damaged = bytearray(payloads[2])
        damaged[place] ^= 1
        with pytest.raises(PayloadError, match=r"payload of client 9: got checksum"):
            CODEC.decode([*payloads[:2], bytes(damaged)], side, public)
    with pytest.raises(PayloadError, match="payload of client 9: got checksum"):
        CODEC.decode([*payloads[:2], payloads[2][:-1]], side, public)
    with pytest.raises(PayloadError, match="payload of client 4: got checksum"):
        CODEC.decode(payloads, side, replace(public, round=3))


@pytest.mark.usefixtures("one_pass")
def test_a_forged_value_that_is_not_finite_is_refused(monkeypatch, public):
    """Its checksum is right."""
    updates, _, side = sent(public, 5000)
    updates[0, 4999] = torch.nan
    with monkeypatch.context() as patch:
        patch.setattr(wzfl.fast_frames, "CAN_SUM", False)
        patch.setattr("wzfl.compressors.envelope.checked", lambda values, *_: values)
        forged = CODEC.encode(updates, public)
    with pytest.raises(
        PayloadError, match="payload of client 4: got a value that is NaN or infinite"
    ):
        CODEC.decode(forged, side, public)


PARTS = [b"head", memoryview(bytes(range(256)) * 2000)[5:], b"", bytearray(b"x" * 300_000), b"end"]
AGREED = [b"", b"about the second", b"1", b"23"]


@pytest.fixture
def from_the_first_byte(monkeypatch):
    """All payloads count as large, and as worth a thread."""
    if not CAN_SUM:
        pytest.skip("this build of xxhash does not show its functions")
    monkeypatch.setattr(wzfl.fast_frames, "_LARGE", 0)
    monkeypatch.setattr(wzfl.fast_frames, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(wzfl.fast_frames, "_WORTH_A_READER", 1)


@pytest.mark.usefixtures("threads", "from_the_first_byte")
@pytest.mark.parametrize(
    "bodies",
    [[PARTS], [PARTS[:1], PARTS, [], PARTS[1:]], [[torch.arange(70_000.0).numpy().data]], [[]], []],
    ids=["large", "several", "floats", "empty", "none"],
)
def test_parts_are_framed_as_step_by_step(bodies):
    agreed = AGREED[: len(bodies)]
    payloads = framed_parts(bodies, 3, 70_000, agreed, Arrivals())
    assert payloads == framed(bodies, 3, 70_000, agreed)
    assert all(type(payload) is bytes for payload in payloads)
    assert are_undamaged(payloads, agreed)


@pytest.mark.usefixtures("threads", "from_the_first_byte")
def test_damage_and_disagreement_are_noticed():
    payloads = framed_parts([PARTS, PARTS[1:2], []], 3, 70_000, AGREED[:3], Arrivals())
    for row, payload in enumerate(payloads):
        for place in {0, 6, len(payload) // 2, len(payload) - 5, len(payload) - 1}:
            damaged = bytearray(payload)
            damaged[place] ^= 1
            some = [*payloads[:row], bytes(damaged), *payloads[row + 1 :]]
            assert not are_undamaged(some, AGREED[:3])
        assert not are_undamaged(payloads, [*AGREED[:row], b"else", *AGREED[row + 1 : 3]])


class Late(Arrivals):
    """Rows of `body` are there only once they are waited for."""

    def __init__(self, size):
        super().__init__()
        self.body = np.zeros((3, size), np.uint8)

    def wait(self, row):
        self.body[row] = row + 1


@pytest.mark.usefixtures("one_pass", "threads")
@pytest.mark.parametrize("size", [10, 500_000], ids=["small", "large"])
def test_no_row_is_read_before_it_has_arrived(size, public):
    late = Late(size)
    payloads = seal_parts(CODEC, [(b"head", row.data) for row in late.body], 5, public, late)
    bodies = [b"head" + bytes([row + 1]) * size for row in range(3)]
    assert payloads == seal_parts(CODEC, [(body,) for body in bodies], 5, public)


def test_what_is_on_the_host_has_arrived():
    rows, arrivals = torch.arange(6).view(3, 2), Arrivals()
    assert arrivals.start(rows).tolist() == rows.tolist()
    arrivals.wait(2)


def test_small_payloads_are_left_to_the_plain_way():
    assert framed_parts([[b"small"]], 3, 5, [b""], Arrivals()) is None
    assert not are_undamaged(framed([[b"small"]], 3, 5, [b""]), [b""])
