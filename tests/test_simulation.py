import math
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch

import wzfl
from wzfl import InputError
from wzfl.client import FedSGD, FullGradient, Shard, update_by_autograd
from wzfl.config import compressor_names
from wzfl.exchange import Diverged
from wzfl.federation import Federation, State
from wzfl.frame import OVERHEAD_BYTES
from wzfl.learned import Learned
from wzfl.linear import Linear
from wzfl.models import logistic, mlp
from wzfl.server import Server
from wzfl.side_information import Last, Mean, Zero
from wzfl.simulation import run_round, simulate

CLIENTS, DIM = 5, 4 * 13
COMPRESSORS = compressor_names()


def shards():
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(4, 12, generator=generator)
    labels = torch.arange(20).remainder(4)
    return [
        Shard(
            (centres[labels] + torch.randn(20, 12, generator=generator)).view(20, 1, 3, 4), labels
        )
        for _ in range(CLIENTS)
    ]


def federation(name="none", bitrate=4, side=None, **changes):
    compressor = wzfl.build_compressor(name, bitrate=bitrate)
    side = side or (Last() if name.startswith("wyner") else Zero())
    default = Federation(
        model=logistic((1, 3, 4), classes=4),
        shards=shards(),
        work=FullGradient(),
        compressor=compressor,
        side_information=side,
        aggregation=compressor.aggregation,
        clients_per_round=CLIENTS,
        seed=0,
    )
    return replace(default, **changes)


def run(settings, rounds=20, lr=0.3):
    server = Server(settings.model.init(0), partial(torch.optim.SGD, lr=lr))
    test = shards()[0]
    state = State.initial(settings, server)
    return list(simulate(settings, state, rounds, 5, test.x, test.y)), server


def without_seconds(records):
    return [
        {key: repr(value) for key, value in record.items() if key != "seconds"}
        for record in records
    ]


def test_float32_is_plain_gradient_descent():
    """Descent is on all examples, of which some clients hold more than others."""
    held = [shard.rows(torch.arange(4 * count)) for count, shard in enumerate(shards(), start=1)]
    settings = federation(shards=held)
    records, server = run(settings, rounds=10)
    everything = Shard(
        *(torch.cat(parts) for parts in zip(*((s.x, s.y) for s in held), strict=True))
    )
    weights, losses, step = settings.model.init(0), [], [torch.arange(len(everything.y))]
    for _ in range(10):
        update, loss = update_by_autograd(FullGradient(), settings.model, weights, everything, step)
        weights -= 0.3 * update
        losses.append(float(loss))
    torch.testing.assert_close(server.weights.detach(), weights, atol=1e-5, rtol=1e-4)
    assert [record["train_loss"] for record in records] == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_trains(name):
    records, _ = run(federation(name), rounds=40, lr=0.02 if name == "signsgd" else 0.3)
    assert records[-1]["train_loss"] < 0.5 * records[0]["train_loss"]
    assert records[-1]["test_accuracy"] > 0.8


@pytest.mark.parametrize("name", COMPRESSORS)
def test_the_same_twice(name):
    assert without_seconds(run(federation(name))[0]) == without_seconds(run(federation(name))[0])


@dataclass(frozen=True)
class TooSmall(Last):
    """Plans a tenth of what it should, from the third round on."""

    def plan(self, memory, clients):
        planned = super().plan(memory, clients)
        known = bool(memory.own.read(clients.tolist()).norm() >= 1e-3)
        return 0.1 * planned if known else planned


def test_a_wrong_scale_is_counted_and_costs_no_more_than_the_side_information():
    aside = wzfl.build_compressor("wyner_ziv", bitrate=8, on_failure="side")
    records, _ = run(federation("wyner_ziv", compressor=aside, side=TooSmall()))
    assert records[0]["decode_failures"] == 0
    failing = [record for record in records if record["decode_failures"] == CLIENTS]
    assert len(failing) >= 2  # not more: after a failure twice as much is planned
    for record in failing:
        assert record["nmse"] == pytest.approx(record["side_information_error"], rel=1e-3)
    right, _ = run(federation("wyner_ziv", bitrate=8))
    assert sum(record["decode_failures"] for record in right) <= 3


@pytest.mark.parametrize("name", ["topk", "diana", "ef21", "marina"])
def test_a_client_that_remembers_wrongly_misleads_the_server(name):
    """The two memories meet in payloads alone: the server can not make up for the client's."""
    errors = []
    for mistake in (0.0, 1.0):
        settings = federation(name)
        server = Server(settings.model.init(0), partial(torch.optim.SGD, lr=0.1))
        state = State.initial(settings, server)
        assert (state.server_memory is None) == (name == "topk")  # whose server keeps nothing
        for number in (1, 2, 3):
            run_round(settings, state, number)
        state.client_memory.add_(mistake)
        errors.append(run_round(settings, state, 4)["nmse"])
    assert errors[1] > 2 * errors[0]


def test_what_is_known_of_each_client_adds_up_to_the_round():
    settings = federation("wyner_ziv", side=Last(sketch=64), clients_per_round=3)
    last_round = {}
    for record in run(settings)[0]:
        clients = record["clients"]
        assert sum(client["uplink_bits"] for client in clients) == record["uplink_bits"]
        assert sum(client["failed"] for client in clients) == record["decode_failures"]
        for column in ("nmse", "side_information_error"):
            mean = sum(client[column] for client in clients) / len(clients)
            assert mean == pytest.approx(record[column])
        for client in clients:
            age = record["round"] - last_round.get(client["client"], math.nan)
            assert client["age"] == pytest.approx(age, nan_ok=True)
            last_round[client["client"]] = record["round"]
            if client["scale"]:  # measured, to within some standard deviations of a sketch of 64
                assert 1 < client["scale"] / client["residual_rms"] < 2
                assert client["cosine"] > 0.5
    assert len(last_round) == CLIENTS
    assert any(client["age"] > 1 for client in clients)


def test_in_waves_clients_are_expected_to_do_as_those_before_them():
    alike = [shards()[0]] * CLIENTS
    policy = Mean(waves=3)
    settings = federation("none", side=policy, shards=alike)
    records, _ = run(settings, rounds=2, lr=0.01)
    errors = [client["side_information_error"] for client in records[0]["clients"]]
    assert errors == [1, *[pytest.approx(0, abs=1e-9)] * (CLIENTS - 1)]
    assert records[1]["clients"][0]["side_information_error"] < 0.5

    in_one = federation("none", side=Mean(), shards=alike)
    assert [record["train_loss"] for record in run(in_one, rounds=2, lr=0.01)[0]] == pytest.approx(
        [record["train_loss"] for record in records]
    )


def test_bits_are_those_of_the_payloads():
    record = run(federation("none"))[0][0]
    assert record["uplink_bits"] == CLIENTS * 8 * (4 * DIM + OVERHEAD_BYTES)
    assert record["downlink_bits"] == CLIENTS * 8 * (4 * DIM + OVERHEAD_BYTES)


@pytest.mark.parametrize("side", [Last(), Mean()])
def test_the_scale_is_charged_to_the_downlink_and_the_first_one_to_the_uplink(side):
    records, _ = run(federation("wyner_ziv", side=side))
    assert records[0]["downlink_bits"] == CLIENTS * 8 * (4 * DIM + OVERHEAD_BYTES + 4)
    # Until the server has a plan, clients send their own scale: 4 bytes more.
    assert records[0]["uplink_bits"] - records[1]["uplink_bits"] == CLIENTS * 8 * 4


def test_plans_are_charged_to_the_downlink():
    model = mlp((1, 3, 4), classes=4, hidden=[2000])
    first, *_, last = run(
        federation("learned_slepian_wolf", side=Learned(), model=model), rounds=10
    )[0]
    weights = CLIENTS * (4 * model.dim + OVERHEAD_BYTES)
    assert first["downlink_bits"] == 8 * weights
    planned = last["downlink_bits"] / 8 - weights
    assert planned >= CLIENTS * 12
    assert planned % 4 == 0


def test_a_model_of_residuals_needs_a_compressor_that_uses_it():
    with pytest.raises(InputError, match="take linear, or learned_slepian_wolf"):
        federation("wyner_ziv", side=Learned())


def test_history_makes_wyner_ziv_exact_near_the_optimum():
    """Full gradients of a fixed problem settle; so does what the server expects."""
    with_history, _ = run(federation("wyner_ziv", 2), rounds=150)
    without, _ = run(federation("wyner_ziv", 2, side=Zero()), rounds=150)
    assert with_history[-1]["side_information_error"] < 0.01
    assert with_history[-1]["nmse"] < 0.02 * without[-1]["nmse"]


def test_partial_participation_and_its_own_clients():
    settings = federation("wyner_ziv", clients_per_round=2)
    server = Server(settings.model.init(0), partial(torch.optim.SGD, lr=0.3))
    state = State.initial(settings, server)
    for round in range(1, 4):
        before = state.side.own.read(range(CLIENTS)).clone()
        run_round(settings, state, round)
        changed = (state.side.own.read(range(CLIENTS)) != before).any(dim=1)
        assert int(changed.sum()) == 2


def test_who_takes_part_depends_on_seed_and_round():
    everyone = shards() * 4

    def sampled(seed):
        settings = federation(shards=everyone, clients_per_round=4, seed=seed)
        records, _ = run(settings, rounds=2)
        return [tuple(client["client"] for client in record["clients"]) for record in records]

    assert sampled(0) == sampled(0)
    assert len({*sampled(0), *sampled(1)}) == 4


def test_all_compressors_see_the_same_clients_and_batches():
    losses = [
        run(federation(name, clients_per_round=3, work=FedSGD(batch_size=4)), rounds=1)[0][0][
            "train_loss"
        ]
        for name in COMPRESSORS
    ]
    assert len(set(losses)) == 1


def test_it_evaluates_when_asked_and_at_the_end():
    records, _ = run(federation(), rounds=12)
    assert [r["round"] for r in records if r["test_accuracy"] == r["test_accuracy"]] == [5, 10, 12]


def test_divergence_stops_the_run():
    with pytest.raises(Diverged, match="no update of round 2 is finite"):
        run(federation(), rounds=400, lr=1e38)


def test_so_do_weights_that_a_step_took_beyond_float32():
    """The updates were finite."""
    settings = federation()
    server = Server(settings.model.init(0) + 1e38, partial(torch.optim.SGD, lr=1e38))
    state = State.initial(settings, server)
    server.step(torch.full((settings.model.dim,), -10.0))
    with pytest.raises(Diverged, match="the weights that round 1 starts from are not finite"):
        run_round(settings, state, 1)


def test_so_does_a_loss_beyond_float32():
    """The weights are finite, and so are their gradients."""
    settings = federation()
    server = Server(settings.model.init(0) * 1e38, partial(torch.optim.SGD, lr=0.3))
    with pytest.raises(Diverged, match="the training loss of round 1 is not finite"):
        run_round(settings, State.initial(settings, server), 1)


def test_so_does_what_clients_remember_once_it_can_not_be_sent():
    """The updates are finite, and far smaller."""
    settings = federation("diana")
    server = Server(settings.model.init(0), partial(torch.optim.SGD, lr=0.3))
    state = State.initial(settings, server)
    state.client_memory[1] = 1e37
    with pytest.raises(Diverged, match=r"remember grew too large: .*client 1"):
        run_round(settings, state, 1)


@pytest.mark.parametrize("count", [0, CLIENTS + 1])
def test_more_clients_than_there_are_can_not_take_part(count):
    with pytest.raises(wzfl.InputError, match=f"clients_per_round must be 1 to {CLIENTS}"):
        federation(clients_per_round=count)


@pytest.mark.parametrize("side", [Mean(), Linear()])
def test_votes_are_no_mean_to_learn_from(side):
    with pytest.raises(wzfl.InputError, match="majority_vote does not give"):
        federation("wyner_ziv", side=side, aggregation="majority_vote")
    federation("signsgd", bitrate=1, side=side, aggregation="majority_vote")  # has no use for it
    federation("wyner_ziv", aggregation="majority_vote")


@pytest.mark.parametrize(("rounds", "eval_every"), [(0, 1), (1, 0)])
def test_there_is_at_least_one_round(rounds, eval_every):
    settings = federation()
    server = Server(settings.model.init(0), partial(torch.optim.SGD, lr=0.3))
    test = shards()[0]
    state = State.initial(settings, server)
    with pytest.raises(wzfl.InputError, match="at least 1"):
        next(simulate(settings, state, rounds, eval_every, test.x, test.y))
