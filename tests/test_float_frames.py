"""Whole float32 vectors travel in the same payloads, whether or not they are written in one pass."""

from dataclasses import replace

import pytest
import torch

import wzfl.float_frames
from wzfl import InputError, PayloadError
from wzfl.compressors.uncompressed import Uncompressed
from wzfl.frame import OVERHEAD_BYTES
from wzfl.kernels.float_frames import CAN_SUM

DIMS = [1, 2, 4095, 4096, 4097, 20_000]
CODEC = Uncompressed()


@pytest.fixture(params=[True, False], ids=["one_pass", "step_by_step"])
def one_pass(request, monkeypatch):
    if request.param and not CAN_SUM:
        pytest.skip("this build of xxhash does not show its functions")
    monkeypatch.setattr(wzfl.float_frames, "CAN_SUM", request.param)


def step_by_step(monkeypatch, function):
    with monkeypatch.context() as patch:
        patch.setattr(wzfl.float_frames, "CAN_SUM", False)
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
    updates[1, place] = torch.finfo(torch.float32).max
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
        patch.setattr(wzfl.float_frames, "CAN_SUM", False)
        patch.setattr("wzfl.compressors.envelope.checked", lambda values, public: values)
        forged = CODEC.encode(updates, public)
    with pytest.raises(PayloadError, match="got a value that is NaN or infinite"):
        CODEC.decode(forged, side, public)
