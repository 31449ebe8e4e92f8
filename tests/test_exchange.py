import threading
import time
from functools import partial

import pytest
import torch

import wzfl
import wzfl.cohort
from wzfl import exchange, uplink
from wzfl.client import FedSGD, Shard
from wzfl.federation import Federation, State
from wzfl.learned import Learned
from wzfl.models import logistic
from wzfl.server import Server
from wzfl.side_information import Fixed, Last, Mean, Zero
from wzfl.simulation import run_round
from wzfl.threads import in_threads

SHAPE, CLIENTS = (1, 4, 4), 7


def rounds(name, side, **changes):
    """The records of three rounds, and what the observer was shown."""
    generator = torch.Generator().manual_seed(0)
    shards = [
        Shard(
            torch.randn(size, *SHAPE, generator=generator),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for size in range(5, 5 + CLIENTS)
    ]
    compressor = wzfl.build_compressor(name, bitrate=2)
    model = logistic(SHAPE, 3)
    federation = Federation(
        model,
        shards,
        FedSGD(4),
        compressor,
        side,
        compressor.aggregation,
        CLIENTS - 1,
        0,
        **changes,
    )
    server = Server(model.init(0), partial(torch.optim.SGD, lr=0.1))
    state, seen = State.initial(federation, server), []
    records = [
        run_round(federation, state, number, lambda *vectors: seen.append(vectors))
        for number in (1, 2, 3)
    ]
    return records, seen


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("wyner_ziv", Last()),
        ("wyner_ziv", Mean()),
        ("learned_slepian_wolf", Learned()),
        ("topk", Zero()),
        ("diana", Zero()),
        ("signsgd", Zero()),
        ("correlated", Zero()),
    ],
)
@pytest.mark.usefixtures("threads")
def test_a_few_clients_at_a_time_are_all_at_once(monkeypatch, name, side):
    def settings(most, chunk, lanes):
        monkeypatch.setattr(wzfl.cohort, "_evenly", lambda clients, _: min(clients, most))
        monkeypatch.setitem(exchange._CHUNK, "cpu", chunk)
        monkeypatch.setattr(uplink, "_LANES", lanes)

    settings(100, 10**6, 1)
    expected, expected_vectors = rounds(name, side)
    for most, chunk, lanes in ((1, 1, 1), (1, 1, 16), (2, 10**6, 2), (3, 100, 3)):
        settings(most, chunk, lanes)
        records, vectors = rounds(name, side)
        for record, other in zip(records, expected, strict=True):
            ours, theirs = record.pop("clients"), dict(other)
            for client, same in zip(ours, theirs.pop("clients"), strict=True):
                assert client == pytest.approx(same, rel=1e-3, abs=1e-6, nan_ok=True)
            assert record == pytest.approx(theirs, rel=1e-3)
        for (_, updates, side_was), (_, others, their_side) in zip(
            vectors, expected_vectors, strict=True
        ):
            assert updates.shape == (CLIENTS - 1, 51)
            torch.testing.assert_close(updates, others, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(side_was, their_side, rtol=1e-3, atol=1e-5)


def test_who_failed_sends_again_and_pays_for_it():
    """The scale is a thousandth of what it should be."""
    once, _ = rounds("slepian_wolf", Fixed(scale=1e-3))
    again, _ = rounds("slepian_wolf", Fixed(scale=1e-3), resend=True)
    failures = once[0]["decode_failures"]
    assert failures == again[0]["decode_failures"] > 0
    assert once[0]["nmse"] > 0.9
    assert again[0]["nmse"] < 0.5
    assert 1.8 < again[0]["uplink_bits"] / once[0]["uplink_bits"] < 2.5
    assert again[0]["downlink_bits"] - once[0]["downlink_bits"] == 8 * failures
    for client, before in zip(again[0]["clients"], once[0]["clients"], strict=True):
        assert client["failed"] == before["failed"] == 1
        assert client["uplink_bits"] > 1.8 * before["uplink_bits"]


def test_what_failed_and_is_of_use_is_not_sent_again():
    once, _ = rounds("wyner_ziv", Fixed(scale=1e-3))
    again, _ = rounds("wyner_ziv", Fixed(scale=1e-3), resend=True)
    assert again[0]["decode_failures"] > 0
    assert again[0]["uplink_bits"] == once[0]["uplink_bits"]


@pytest.mark.parametrize("count", [1, 5, 16, 23, 1000])
@pytest.mark.parametrize("dim", [10, 10**8, 10**10])
def test_lanes_share_the_groups_and_bound_the_sums(count, dim):
    groups = [slice(number, number + 1) for number in range(count)]
    lanes = uplink._lanes(groups, dim)
    assert [group for lane in lanes for group in lane] == groups
    assert len(lanes) <= 16
    assert len(lanes) == 1 or len(lanes) * dim <= 2**28
    assert max(map(len, lanes)) - min(map(len, lanes)) <= 1


def test_results_come_in_the_order_of_the_items(threads):
    def slow_at_first(item):
        time.sleep(0.02 if item == 0 else 0)
        return item**2

    assert in_threads(slow_at_first, range(7)) == [item**2 for item in range(7)]


def test_each_thread_has_one_core(threads):
    cores = in_threads(lambda _: torch.get_num_threads(), range(7))
    assert set(cores) == {1}
    assert torch.get_num_threads() == threads


def test_the_caller_is_one_of_the_threads(threads):
    meet = threading.Barrier(threads)

    def who(_):
        meet.wait(timeout=60)
        return threading.get_ident()

    workers = in_threads(who, range(threads))
    assert len(set(workers)) == threads
    assert threading.get_ident() in workers


@pytest.mark.usefixtures("threads")
def test_an_error_is_raised_where_it_can_be_seen():
    def fail(item):
        raise wzfl.PayloadError(f"got {item}")

    with pytest.raises(wzfl.PayloadError, match="got"):
        in_threads(fail, range(5))
