"""Faults between clients and server, and clients that are out of order."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from test_simulation import CLIENTS, COMPRESSORS, federation, run, shards

from wzfl import InputError
from wzfl.channel import Faulty
from wzfl.client import Shard
from wzfl.compressors.envelope import seal_rows
from wzfl.compressors.uncompressed import Uncompressed
from wzfl.exchange import Diverged
from wzfl.federation import State
from wzfl.learned import Learned
from wzfl.linear import Linear
from wzfl.public import Public
from wzfl.server import Server
from wzfl.side_information import Last, Mean
from wzfl.simulation import run_round

PUBLIC = Public(seed=3, round=5, clients=range(1000))
PAYLOADS = [bytes([client % 256, client // 256, 7]) for client in range(1000)]


def started(settings, lr=0.3):
    server = Server(settings.model.init(0), lambda weights: torch.optim.SGD(weights, lr=lr))
    return State.initial(settings, server)


def column(records, name):
    return [record[name] for record in records]


def test_shares_are_what_they_are_called():
    arrived = Faulty(loss=0.3).deliver(PAYLOADS, PUBLIC)
    assert sum(not each for each in arrived) == pytest.approx(300, abs=60)
    assert all(each in ((), (own,)) for each, own in zip(arrived, PAYLOADS, strict=True))

    arrived = Faulty(corruption=0.3).deliver(PAYLOADS, PUBLIC)
    changed = [(each, own) for (each,), own in zip(arrived, PAYLOADS, strict=True) if each != own]
    assert len(changed) == pytest.approx(300, abs=60)
    for each, own in changed:
        flipped = int.from_bytes(each, "big") ^ int.from_bytes(own, "big")
        assert len(each) == len(own)
        assert flipped.bit_count() == 1

    arrived = Faulty(duplication=0.3).deliver(PAYLOADS, PUBLIC)
    assert sum(len(each) == 2 for each in arrived) == pytest.approx(300, abs=60)

    arrived = Faulty(confusion=0.3).deliver(PAYLOADS, PUBLIC)
    strange = [row for row in range(1000) if arrived[row][0] != PAYLOADS[row]]
    assert len(strange) == pytest.approx(300, abs=60)
    assert all(arrived[row] == (PAYLOADS[row - 1], PAYLOADS[row]) for row in strange)


def test_faults_do_not_depend_on_what_is_sent_nor_on_who_else_is_there():
    channel = Faulty(loss=0.5)
    arrived = [bool(each) for each in channel.deliver(PAYLOADS, PUBLIC)]
    assert [bool(each) for each in channel.deliver([b"x"] * 1000, PUBLIC)] == arrived
    alone = [channel.deliver([b"x"], PUBLIC.rows(slice(row, row + 1))) for row in range(1000)]
    assert [bool(each) for (each,) in alone] == arrived
    for other in (replace(PUBLIC, round=6), replace(PUBLIC, seed=4)):
        assert [bool(each) for each in channel.deliver(PAYLOADS, other)] != arrived


@pytest.mark.parametrize("share", ["loss", "corruption", "duplication", "confusion"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_share_is_one(share, value):
    with pytest.raises(InputError, match=rf"channel.{share} must be a share, 0 to 1; got"):
        Faulty(**{share: value})


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_goes_on_under_all_faults_at_once(name):
    side = Learned() if name.startswith("learned") else None
    channel = Faulty(loss=0.2, corruption=0.2, duplication=0.3, confusion=0.3)
    records, server = run(federation(name, 2, side, channel=channel), rounds=8, lr=0.1)
    assert sum(column(records, "lost")) > 5
    assert sum(column(records, "refused")) > 5
    assert server.weights.isfinite().all()


def test_where_everything_is_lost_nothing_changes_but_bits_were_sent():
    whole, _ = run(federation("wyner_ziv", side=Mean()), rounds=1)
    settings = federation("wyner_ziv", side=Mean(), channel=Faulty(loss=1))
    records, server = run(settings, rounds=3)
    assert column(records, "lost") == [CLIENTS] * 3
    assert column(records, "refused") == [0] * 3
    assert column(records, "uplink_bits") == column(whole, "uplink_bits") * 3
    assert torch.equal(server.weights.detach(), federation().model.init(0))
    for record in records:
        assert record["nmse"] != record["nmse"]
        assert all(client["lost"] == 1 for client in record["clients"])
        assert all(client["age"] != client["age"] for client in record["clients"])


@dataclass(frozen=True)
class Late:
    """What the second half of the clients send comes too late."""

    def deliver(self, payloads, public):
        early = [client < CLIENTS // 2 for client in public.clients]
        return [(payload,) * here for payload, here in zip(payloads, early, strict=True)]


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("wyner_ziv", Mean(waves=2)),
        ("wyner_ziv", Linear(waves=2)),
        ("learned_slepian_wolf", Learned(waves=2)),
    ],
)
def test_a_wave_of_which_nothing_comes_teaches_nothing(name, side):
    """All is as if nobody had been asked in that wave."""
    waves = federation(name, side=side, channel=Late())
    state = started(waves)
    for round in range(1, 6):
        assert run_round(waves, state, round)["lost"] == CLIENTS - CLIENTS // 2
    alone = federation(name, side=replace(side, waves=1), channel=Late())
    expected = started(alone)
    for round in range(1, 6):
        run_round(alone, expected, round)
    torch.testing.assert_close(state.side.common, expected.side.common)
    torch.testing.assert_close(state.side.margin, expected.side.margin)


@dataclass(frozen=True)
class Asked(Mean):
    """Keeps how many clients each mean was of that it learned from."""

    counts: list = field(default_factory=list)

    def finish(self, memory, mean, clients, gain):
        self.counts.append(clients)
        super().finish(memory, mean, clients, gain)


def test_a_mean_is_of_those_that_were_heard_in_the_round_so_far():
    policy = Asked(waves=3)  # of 1, 2 and 2 clients, of whom the last three come too late
    run(federation("wyner_ziv", side=policy), rounds=1)
    assert policy.counts == [1, 3, 5]
    policy.counts.clear()
    run(federation("wyner_ziv", side=policy, channel=Late()), rounds=2)
    assert policy.counts == [1, 2] * 2


@pytest.mark.parametrize("side", [Last(), Last(sketch=16), Linear(sketch=16), Linear(sketch=0)])
def test_damaged_payloads_are_refused_and_nothing_is_learned_of_them(side):
    settings = federation("wyner_ziv", side=side, channel=Faulty(corruption=1))
    state = started(settings)
    record = run_round(settings, state, 1)
    assert (record["lost"], record["refused"]) == (CLIENTS, CLIENTS)
    assert not state.side.residual_rms.any()
    everyone = torch.arange(CLIENTS)
    assert not settings.side_information.predict(state.side, everyone).any()
    assert not state.last_round.any()
    scales = torch.tensor([client["scale"] for client in record["clients"]])
    assert bool(scales.isnan().all()) == (side.sketch > 0)  # else they were told one


@pytest.mark.parametrize(
    "channel", [Faulty(duplication=1), Faulty(confusion=1), Faulty()], ids=["twice", "confused", ""]
)
@pytest.mark.parametrize("name", ["wyner_ziv", "topk", "diana", "correlated"])
def test_what_arrives_twice_or_under_another_name_changes_nothing(name, channel):
    expected, reference = run(federation(name), rounds=6)
    records, server = run(federation(name, channel=channel), rounds=6)
    torch.testing.assert_close(server.weights, reference.weights, rtol=1e-4, atol=1e-5)
    assert column(records, "uplink_bits") == column(expected, "uplink_bits")
    assert column(records, "lost") == [0] * 6
    assert column(records, "refused") == [CLIENTS if channel.confusion else 0] * 6


def test_who_is_lost_grows_old():
    records, _ = run(federation("wyner_ziv", channel=Faulty(loss=0.5)))
    last = {}
    for record in records:
        for client in record["clients"]:
            known = last.get(client["client"])
            if known is None:
                assert client["age"] != client["age"]
            else:
                assert client["age"] == client["round"] - known
            if not client["lost"]:
                last[client["client"]] = client["round"]
    assert records[-1]["train_loss"] < records[0]["train_loss"]


@pytest.mark.parametrize("name", ["diana", "ef21"])
def test_both_ends_remember_the_same_of_clients_that_were_understood(name):
    settings = federation(name, channel=Faulty(loss=0.3, corruption=0.3))
    state = started(settings, lr=0.1)
    for round in range(1, 9):
        run_round(settings, state, round)
    assert state.client_memory.any()
    torch.testing.assert_close(state.client_memory, state.server_memory)


def test_an_acknowledgement_is_charged():
    faulty, _ = run(federation("diana", channel=Faulty(loss=0.5)), rounds=1)
    perfect, _ = run(federation("diana"), rounds=1)
    assert faulty[0]["downlink_bits"] - perfect[0]["downlink_bits"] == 8 * CLIENTS
    unable, _ = run(federation("diana", shards=spoiled([2])), rounds=1)
    assert unable[0]["downlink_bits"] == perfect[0]["downlink_bits"]


def spoiled(clients):
    """The shards, those of some clients with an example that is not a number."""
    every = shards()
    for client in clients:
        x = every[client].x.clone()
        x[0, 0, 0, 0] = torch.nan
        every[client] = Shard(x, every[client].y)
    return every


@pytest.mark.parametrize("name", ["none", "wyner_ziv", "topk"])
def test_a_client_whose_update_is_not_finite_sends_nothing(name):
    records, server = run(federation(name, shards=spoiled([2])), rounds=10)
    whole, _ = run(federation(name), rounds=1)
    assert column(records, "lost") == [1] * 10
    assert records[0]["uplink_bits"] < whole[0]["uplink_bits"]
    assert server.weights.isfinite().all()
    assert records[-1]["test_accuracy"] > 0.9
    (client,) = [client for client in records[3]["clients"] if client["lost"]]
    assert (client["client"], client["uplink_bits"]) == (2, 0)
    assert all(loss < 4 for loss in column(records, "train_loss"))  # that of the others


@dataclass(frozen=True)
class Watched:
    """Keeps who sent something."""

    senders: list

    def deliver(self, payloads, public):
        self.senders.extend(public.clients)
        return [(payload,) for payload in payloads]


def test_what_was_never_sent_does_not_enter_the_channel(threads):
    channel = Watched([])
    run(federation("none", shards=spoiled([2]), channel=channel), rounds=1)
    assert sorted(channel.senders) == [0, 1, 3, 4]


@pytest.mark.parametrize("name", ["none", "wyner_ziv", "qsgd"])
def test_nor_does_one_whose_update_is_too_large_for_sums_of_it(name):
    every = shards()
    every[2] = Shard(1e33 * every[2].x, every[2].y)
    records, server = run(federation(name, shards=every), rounds=1)
    assert column(records, "lost") == [1]
    assert server.weights.abs().max() < 1e3


def test_where_no_update_is_finite_the_run_has_diverged():
    with pytest.raises(Diverged, match="no update of round 1 is finite"):
        run(federation("none", shards=spoiled(range(CLIENTS))))


@dataclass(frozen=True)
class Forged:
    """The second client seals, by the rules, numbers that are none."""

    dim: int

    def deliver(self, payloads, public):
        arrived = [(payload,) for payload in payloads]
        body = torch.full((self.dim,), torch.nan).numpy().tobytes()
        own = public.rows(slice(1, 2))
        arrived[1] = tuple(seal_rows(Uncompressed(), [body], self.dim, own))
        return arrived


def test_a_payload_of_numbers_that_are_none_is_refused():
    settings = federation("none")
    records, server = run(replace(settings, channel=Forged(settings.model.dim)), rounds=5)
    assert column(records, "refused") == column(records, "lost") == [1] * 5
    assert server.weights.isfinite().all()
