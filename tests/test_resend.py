"""What comes of payloads that could not be used, once clients were asked again."""

from functools import partial

import pytest
import torch
from test_learned import misled

import wzfl
from wzfl.client import FedSGD, Shard
from wzfl.compressors.learned_slepian_wolf import LearnedSlepianWolf
from wzfl.compressors.plane_plan import Plan
from wzfl.decoding import decode
from wzfl.downlink import broadcast
from wzfl.exchange import exchange
from wzfl.federation import Federation, State
from wzfl.learned import Learned
from wzfl.ledger import BitLedger
from wzfl.models import logistic
from wzfl.public import Public
from wzfl.resend import _between
from wzfl.server import Server

CLIENTS = 4


class Rounds:
    """Clients whose updates move slowly and are large in the same places in all rounds."""

    def __init__(self):
        shape = (1, 40, 40)
        model = logistic(shape, 3)
        shards = [Shard(torch.zeros(1, *shape), torch.zeros(1, dtype=torch.long))] * CLIENTS
        compressor = LearnedSlepianWolf(2.0)
        self.federation = Federation(
            model=model,
            shards=shards,
            work=FedSGD(1),
            compressor=compressor,
            side_information=Learned(),
            aggregation="mean",
            clients_per_round=CLIENTS,
            seed=0,
            resend=True,
        )
        server = Server(model.init(0), partial(torch.optim.SGD, lr=0.1))
        self.state = State.initial(self.federation, server)
        self.generator = torch.Generator().manual_seed(0)
        self.magnitudes = self._noise(torch.ones(CLIENTS, model.dim)).mul(2).exp()
        self.updates, self.number = self._noise(self.magnitudes), 0

    def _noise(self, magnitudes):
        return torch.randn(magnitudes.shape, generator=self.generator) * magnitudes

    def step(self):
        """One round: errors by client, bits sent up, and down beside the model, and payload bytes."""
        self.updates = 0.995 * self.updates + 0.1 * self._noise(self.magnitudes)
        self.number += 1
        ledger, clients = BitLedger(), tuple(range(CLIENTS))
        weights, public = broadcast(self.federation, self.state, self.number, clients, ledger)
        model_alone = CLIENTS * 32 * weights.numel()
        parts = exchange(self.federation, self.state, self.updates.clone(), public)
        for part in parts:
            ledger.join(part.ledger)
        estimates = torch.cat([part.estimates for part in parts])
        policy = self.federation.side_information
        policy.finish(self.state.side, estimates.mean(dim=0), CLIENTS, 1.0)
        errors = (estimates - self.updates).square().sum(1) / self.updates.square().sum(1)
        sizes = torch.cat([part.payload_bytes for part in parts])
        assert 8 * int(sizes.sum()) == ledger.uplink_bits
        return errors, ledger.uplink_bits, ledger.downlink_bits - model_alone, sizes


@pytest.fixture
def rounds(monkeypatch):
    """Clients after ten rounds; the next `rounds.spoiled` payloads of client 0 have wrong hashes."""
    honest = LearnedSlepianWolf.encode
    found = Rounds()
    found.spoiled, found.asked = 0, []

    def encode(self, updates, public):
        payloads = honest(self, updates, public)
        if public.clients[0] == 0:
            found.asked.append(public.plans[0])
            if found.spoiled and public.plans[0]:
                found.spoiled -= 1
                return misled(self, payloads, public, updates.shape[1])
        return payloads

    monkeypatch.setattr(LearnedSlepianWolf, "encode", encode)
    for _ in range(10):
        found.usual = found.step()
    found.asked.clear()
    return found


def test_a_planned_payload_that_was_not_read_is_planned_anew(rounds):
    rounds.spoiled = 1
    errors, up, down, sizes = rounds.step()
    first, again = rounds.asked
    assert again
    assert Plan.from_bytes(again).cell > 1.3 * Plan.from_bytes(first).cell
    assert errors[0] < 8 * rounds.usual[0][0]  # twice the cell is four times the error
    assert down - rounds.usual[2] == pytest.approx(8 * len(again), abs=200)
    assert 1.15 < up / rounds.usual[1] < 1.35
    assert sizes[0] > 1.8 * sizes[1:].float().mean()
    errors, *_ = rounds.step()
    assert errors[0] < 8 * rounds.usual[0][0]


def test_if_that_is_not_read_either_the_update_comes_alone(rounds):
    rounds.spoiled = 2
    errors, _, down, sizes = rounds.step()
    assert [bool(plan) for plan in rounds.asked] == [True, True, False]
    assert down - rounds.usual[2] == pytest.approx(8 * (len(rounds.asked[1]) + 1), abs=200)
    assert sizes[0] > 2.7 * sizes[1:].float().mean()
    nothing_read = 0.1**2  # how far updates move
    assert errors[0] < nothing_read


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.3, 1.0, 10.0, 1e6])
@pytest.mark.parametrize("name", ["slepian_wolf_posterior", "wyner_ziv_posterior"])
def test_between_two_estimates_is_the_wiener_filter(name, ratio):
    compressor, dim = wzfl.build_compressor(name, bitrate=2), 2**14
    generator = torch.Generator().manual_seed(0)
    update = torch.randn(1, dim, generator=generator)
    public, nothing = Public(0, 1, (0,)), torch.zeros(1, dim)
    coded_alone = decode(compressor, compressor.encode(update, public), nothing, public)[0]
    alone = (coded_alone - update).square().mean()
    off = ratio * alone
    first = update + off.sqrt() * torch.randn(1, dim, generator=generator)
    error = (_between(first, coded_alone, compressor) - update).square().mean()
    assert float(error / alone) == pytest.approx(ratio / (1 + ratio), rel=0.1, abs=0.01)
