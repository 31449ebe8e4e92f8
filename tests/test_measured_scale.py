from dataclasses import replace
from functools import partial

import pytest
import torch
from test_simulation import CLIENTS, DIM, federation, run

import wzfl
from wzfl import InputError, PayloadError
from wzfl.federation import State
from wzfl.frame import OVERHEAD_BYTES
from wzfl.linear import Linear
from wzfl.measured_scale import (
    margin,
    prepend_scales,
    sketches,
    split_scales,
    with_measured_scales,
)
from wzfl.public import Public
from wzfl.server import Server
from wzfl.side_information import Fixed, Last, Mean
from wzfl.simulation import run_round

SIZE = 64
FEW = DIM // 2  # where the model is that of test_simulation


def sketched(updates, side, round=1):
    public = Public(seed=0, round=round, clients=range(len(updates)))
    return replace(public, sketches=sketches(side, SIZE, public))


def vectors(clients=200, dim=3001, seed=0):
    generator = torch.Generator().manual_seed(seed)
    side = torch.randn(clients, dim, generator=generator)
    return side + 0.1 * torch.randn(clients, dim, generator=generator), side


def test_the_margin_is_a_quantile_of_chi_square():
    """The 0.001 quantile with 100 degrees of freedom is 61.918 in published tables."""
    assert margin(100, 1000) == pytest.approx((100 / 61.918) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("spiky", [False, True])
def test_sketches_tell_the_distance(spiky):
    updates, side = vectors()
    if spiky:
        updates[:, 7] += 20
    public = sketched(updates, side)
    difference = sketches(updates, SIZE, public) - public.sketches
    ratio = difference.square().sum(dim=1) / (updates - side).square().sum(dim=1)
    assert ratio.mean() == pytest.approx(1, abs=4 * (2 / SIZE / len(updates)) ** 0.5)
    assert ratio.std() < 1.2 * (2 / SIZE) ** 0.5


def test_scales_are_seldom_too_small_and_not_much_too_large():
    updates, side = vectors(clients=1000, dim=500)
    scale = with_measured_scales(updates, sketched(updates, side)).scale
    ratio = scale / (updates - side).square().mean(dim=1).sqrt()
    assert (ratio < 1).sum() <= 5
    assert ratio.mean() == pytest.approx(margin(SIZE, 500), rel=0.02)


def test_where_history_is_no_better_the_client_codes_alone():
    updates, side = vectors(clients=20)
    for useless in (-side, torch.zeros_like(side)):
        assert (with_measured_scales(updates, sketched(updates, useless)).scale == 0).all()


def test_the_server_hears_what_the_client_measured():
    updates, side = vectors(clients=5)
    public = sketched(updates, side)
    known = with_measured_scales(updates, public)
    bodies, read = split_scales(prepend_scales([b"a", b"bc", b"", b"d", b"e"], known), public)
    assert bodies == [b"a", b"bc", b"", b"d", b"e"]
    assert torch.equal(read.scale, known.scale)
    assert read.sketches is None


@pytest.mark.parametrize("scale", [b"", b"\x00", b"\xff\xff", b"\x80\x7f", b"\x80\xbf"])
def test_a_payload_without_a_usable_scale_is_refused(scale):
    public = Public(seed=0, round=1, clients=(3,))
    with pytest.raises(PayloadError, match=r"payload of client 3: got .* scale"):
        split_scales([scale], public)


def test_there_is_a_payload_of_each_client():
    with pytest.raises(PayloadError, match="got 0 payloads for 2 clients"):
        split_scales([], Public(seed=0, round=1, clients=(3, 4)))
    with pytest.raises(InputError, match="payloads must be a list, one per client; got NoneType"):
        split_scales(None, Public(seed=0, round=1, clients=(3, 4)))


def test_nothing_is_measured_without_sketches():
    with pytest.raises(InputError, match=r"what the server sketches; got public.sketches None"):
        with_measured_scales(torch.ones(1, 9), Public(seed=0, round=1, clients=(3,)))


def test_a_scale_that_was_changed_on_the_way_is_noticed():
    updates, side = vectors(clients=1)
    public, compressor = sketched(updates, side), wzfl.build_compressor("wyner_ziv", bitrate=3)
    known = with_measured_scales(updates, public)
    (payload,) = prepend_scales(compressor.encode(updates, known), known)
    bodies, read = split_scales([bytes([payload[0] ^ 1]) + payload[1:]], public)
    with pytest.raises(PayloadError):
        compressor.decode(bodies, side, read)


@pytest.mark.parametrize("side", [Last(sketch=FEW), Mean(sketch=FEW), Linear(sketch=FEW)])
def test_sketches_are_charged_to_the_downlink_and_scales_to_the_uplink(side):
    records, _ = run(federation("wyner_ziv", side=side))
    planned, _ = run(federation("wyner_ziv", side=Last()))
    down = CLIENTS * 8 * (4 * DIM + OVERHEAD_BYTES + 4 * FEW)
    assert {record["downlink_bits"] for record in records} == {down}
    # Two bytes of scale each; in the first round clients also tell the scale that they code alone with.
    assert records[0]["uplink_bits"] - planned[0]["uplink_bits"] == CLIENTS * 8 * 2


@pytest.mark.parametrize("name", ["wyner_ziv", "wyner_ziv_wiener", "slepian_wolf_posterior"])
def test_codes_with_side_information_train_with_measured_scales(name):
    records, _ = run(federation(name, side=Last(sketch=FEW)))
    assert records[-1]["side_information_error"] < 0.5
    assert records[-1]["train_loss"] < records[0]["train_loss"]


def test_a_fixed_scale_is_charged_to_nobody():
    records, _ = run(federation("wyner_ziv", side=Fixed(scale=0.5)))
    assert {record["downlink_bits"] for record in records} == {
        CLIENTS * 8 * (4 * DIM + OVERHEAD_BYTES)
    }
    assert {client["scale"] for record in records for client in record["clients"]} == {0.5}
    assert records[-1]["train_loss"] < records[0]["train_loss"]


def test_all_of_the_side_information_is_an_oracle_and_costs_the_downlink_as_much():
    records, _ = run(federation("wyner_ziv", side=Last(sketch=10**9)))
    down = CLIENTS * 8 * (4 * DIM + OVERHEAD_BYTES + 4 * DIM)
    assert {record["downlink_bits"] for record in records} == {down}
    informed = [client for record in records for client in record["clients"] if client["scale"] > 0]
    assert len(informed) > 50
    for client in informed:
        # bfloat16, rounded up
        assert 1 <= client["scale"] / client["residual_rms"] < 1.01
    assert not any(client["failed"] for client in informed)


def test_others_are_sent_no_sketch():
    records, _ = run(federation("eden", side=Last(sketch=FEW)))
    assert records[0]["downlink_bits"] == CLIENTS * 8 * (4 * DIM + OVERHEAD_BYTES + 4)


def test_a_change_of_pace_costs_no_failures():
    """Updates fifty times as large from one round to the next are what an estimate can not foresee."""

    def failures(side):
        settings = federation("slepian_wolf", 3, side=side)
        server = Server(settings.model.init(0), partial(torch.optim.SGD, lr=0.1))
        state, failed = State.initial(settings, server), 0
        for round in range(1, 16):
            failed += run_round(settings, state, round)["decode_failures"]
            if round == 8:
                server.weights.data += 3 * torch.randn(
                    server.weights.shape, generator=torch.Generator().manual_seed(1)
                )
        return failed

    assert failures(Last()) >= CLIENTS
    assert failures(Last(sketch=FEW)) == 0


def test_a_sketch_has_no_negative_size():
    with pytest.raises(InputError, match="sketch"):
        Last(sketch=-1)


def test_a_sketch_per_client():
    with pytest.raises(InputError, match="one per client"):
        Public(seed=0, round=1, clients=(0, 1), sketches=torch.zeros(1, FEW))
