"""What a server that models residuals learns, round by round."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from wzfl import InputError, PayloadError
from wzfl.compressors.envelope import open_rows, seal_rows
from wzfl.compressors.learned_slepian_wolf import LearnedSlepianWolf
from wzfl.compressors.plane_plan import HASH_BYTES, Plan, hashed
from wzfl.compressors.slepian_wolf import SlepianWolf
from wzfl.frame import OVERHEAD_BYTES
from wzfl.kernels.density import BINS
from wzfl.learned import Learned
from wzfl.public import Public
from wzfl.residual_model import bins_of
from wzfl.side_information import Decoded
from wzfl.spread import _larger

DIM, CLIENTS = 2**13, 4


class Fleet:
    """Clients whose residuals are large in the same places in all rounds, and their server."""

    def __init__(self, bitrate, drift=1.0, dim=DIM):
        self.generator = torch.Generator().manual_seed(0)
        self.magnitudes = torch.randn(CLIENTS, dim, generator=self.generator).mul(2).exp()
        self.updates = self._noise()
        self.compressor, self.policy, self.drift = LearnedSlepianWolf(bitrate), Learned(), drift
        self.memory = self.policy.init(CLIENTS, dim, torch.device("cpu"))
        self.clients, self.round = torch.arange(CLIENTS), 0

    def _noise(self):
        return torch.randn(self.magnitudes.shape, generator=self.generator) * self.magnitudes

    def plan(self):
        self.round += 1
        self.policy.plan(self.memory, self.clients)
        model = self.policy.model(self.memory, self.clients)
        side = self.policy.predict(self.memory, self.clients)
        plans = tuple(self.compressor.plan(model, side))
        return Public(0, self.round, tuple(range(CLIENTS)), plans=plans), model, side

    def step(self, spoil=lambda payloads, public: payloads):
        """Relative errors of a round, and failures."""
        kept = (1 - self.drift**2) ** 0.5
        self.updates = kept * self.updates + self.drift * self._noise()
        public, model, side = self.plan()
        payloads = spoil(self.compressor.encode(self.updates, public), public)
        estimates, failed = self.compressor.decode_checked(payloads, side, public, model)
        self.estimates = estimates
        self.policy.learn(self.memory, Decoded(self.clients, side, estimates, failed, 1.0))
        self.policy.finish(self.memory, estimates.mean(dim=0), CLIENTS, 1.0)
        error = (estimates - self.updates).square().sum() / self.updates.square().sum()
        return float(error), failed, payloads


def misled(compressor, payloads, public, dim=DIM):
    """Makes all hashes of the first client wrong."""
    one = public.rows(slice(0, 1))
    (body,) = open_rows(compressor, payloads[:1], dim, one)
    wrong = bytearray(body)
    end = 1 + HASH_BYTES * sum(hashed(Plan.from_bytes(public.plans[0]).sent))
    wrong[1:end] = bytes(255 - byte for byte in wrong[1:end])
    return seal_rows(compressor, [bytes(wrong)], dim, one) + payloads[1:]


def test_it_learns_where_the_energy_is():
    """Without any prediction, errors are far below what a rotation allows: 0.13 at 2 bits."""
    fleet = Fleet(2)
    first, *_ = fleet.step()
    later = [fleet.step() for _ in range(12)]
    assert first > 0.1
    assert all(error < 0.02 for error, *_ in later[-4:])
    assert sum(int(failed.sum()) for _, failed, _ in later[-6:]) <= 2
    assert all(8 * len(payload) <= 2.02 * DIM for *_, sent in later for payload in sent)


def test_it_uses_what_is_expected_too():
    fleet = Fleet(2, drift=0.1)
    errors = [fleet.step()[0] for _ in range(15)]
    assert errors[-1] < 1e-3


def test_updates_that_grow_are_told_apart():
    """A client knows by how much, so nothing fails."""
    fleet = Fleet(2)
    for _ in range(6):
        fleet.step()
    fleet.magnitudes *= 2
    error, failed, _ = fleet.step()
    assert not failed.any()
    assert error < 0.03


def test_after_nothing_was_read_more_is_expected():
    fleet = Fleet(2)
    for _ in range(4):
        fleet.step()
    caution = fleet.memory.spread.caution.clone()
    _, failed, _ = fleet.step(partial(misled, fleet.compressor))
    assert failed[0]
    assert fleet.memory.spread.doubt[0] == 2
    assert fleet.memory.spread.caution[0] == min(2 * caution[0], 8)
    fleet.step()
    assert fleet.memory.spread.doubt[0] == 1


def test_what_was_read_and_never_learned_is_not_taken_for_the_next():
    """A payload may be refused after it was read."""
    fleet = Fleet(2)
    for _ in range(2):
        fleet.step()
    public, model, side = fleet.plan()
    payloads = fleet.compressor.encode(fleet.updates, public)
    fleet.compressor.decode_checked(payloads, side, public, model)
    assert fleet.memory.spread.planned
    fleet.plan()
    assert not fleet.memory.spread.planned


def test_nothing_is_planned_for_who_is_not_known():
    fleet = Fleet(2)
    fleet.clients = torch.tensor([0, 1, 3])
    first = fleet.updates.clone()
    for expected in ([False] * 4, [True, True, False, True]):
        fleet.round += 1
        public = Public(0, fleet.round, tuple(fleet.clients.tolist()))
        fleet.policy.plan(fleet.memory, fleet.clients)
        model = fleet.policy.model(fleet.memory, fleet.clients)
        side = fleet.policy.predict(fleet.memory, fleet.clients)
        plans = fleet.compressor.plan(model, side)
        assert [bool(plan) for plan in plans] == [expected[client] for client in public.clients]
        public = replace(public, plans=tuple(plans))
        payloads = fleet.compressor.encode(first[fleet.clients], public)
        estimates, failed = fleet.compressor.decode_checked(payloads, side, public, model)
        fleet.policy.learn(fleet.memory, Decoded(fleet.clients, side, estimates, failed, 1.0))
        fleet.policy.finish(fleet.memory, estimates.mean(dim=0), len(estimates), 1.0)
        fleet.clients = torch.arange(CLIENTS)


def test_short_vectors_are_sent_as_without_a_plan():
    """Hashes alone would take a good part of the bits."""
    fleet = Fleet(4, dim=40)
    for _ in range(4):
        error, *_ = fleet.step()
        assert error < 0.1
    assert not any(fleet.plan()[0].plans)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (
            (1000, 3000, 1985),
            "a plan of 6033 bits per block, 3000 of one plane; .* at most 6000 for",
        ),
        ((0, 3001), "a plan of 3017 bits per block, 3001 of one plane; .* 3000 of a plane"),
    ],
)
def test_a_plan_beyond_the_bitrate_is_not_followed(sent, message):
    compressor, update = LearnedSlepianWolf(2.0), torch.randn(1, 3000)
    public = Public(0, 1, (0,), plans=(Plan(0.1, 0.0, (1000, 3000, 1952)).to_bytes(),))
    (payload,) = compressor.encode(update, public)
    assert 8 * (len(payload) - OVERHEAD_BYTES - 1) == 6000
    with pytest.raises(InputError, match=message):
        compressor.encode(update, replace(public, plans=(Plan(0.1, 0.0, sent).to_bytes(),)))


def test_planned_payloads_need_the_model_and_a_plan():
    fleet = Fleet(2)
    fleet.step()
    public, model, side = fleet.plan()
    payloads = fleet.compressor.encode(fleet.updates, public)
    with pytest.raises(InputError, match="model it was planned from"):
        fleet.compressor.decode(payloads, side, public)
    another = replace(public, plans=(public.plans[0][:-4] + b"\0\0\0\0", *public.plans[1:]))
    with pytest.raises(PayloadError, match="client 0"):
        fleet.compressor.decode_checked(payloads, side, another, model)
    with pytest.raises(InputError, match="one per client or none"):
        replace(public, plans=public.plans[1:])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_expected_must_be_finite_with_a_plan_too(bad):
    fleet = Fleet(2)
    fleet.step()
    public, model, side = fleet.plan()
    payloads = fleet.compressor.encode(fleet.updates, public)
    assert all(public.plans)
    side[1, 3] = bad
    with pytest.raises(InputError, match="side information for client 1 holds NaN or infinity"):
        fleet.compressor.decode_checked(payloads, side, public, model)


def test_zeros_are_sent_too():
    fleet = Fleet(1)
    fleet.step()
    before = fleet.estimates.abs().max()
    fleet.magnitudes *= 0
    fleet.drift = 1.0
    for _ in range(3):
        fleet.step()
    assert fleet.estimates.abs().max() < 1e-3 * before


@pytest.mark.parametrize("pace", [0, 1.5])
def test_a_pace_is_a_share(pace):
    with pytest.raises(InputError, match="pace"):
        Learned(pace=pace)


@pytest.mark.parametrize(
    ("dim", "block", "alone"), [(500, 100, 100), (2**17 + 1, LearnedSlepianWolf.block, 2**17)]
)
def test_who_is_not_known_is_coded_in_blocks_no_longer_than_told(dim, block, alone):
    compressor, public = LearnedSlepianWolf(2, block), Public(0, 0, (0,))
    update = torch.randn(1, dim, generator=torch.Generator().manual_seed(0))
    (body,) = open_rows(compressor, compressor.encode(update, public), dim, public)
    (expected,) = SlepianWolf(2, "posterior_mean", alone).bodies(update, public)
    assert bytes(body) == expected


@pytest.mark.parametrize("block", [0, 2**20 + 1])
def test_a_block_has_a_coordinate_or_more_and_not_too_many(block):
    with pytest.raises(InputError, match="block must be 1 to 1048576; got"):
        LearnedSlepianWolf(2, block)


def test_what_grows_for_long_is_expected():
    """A stretch that all clients have for many rounds would be unknown where bits are read."""
    fleet = Fleet(4)
    errors = []
    for _ in range(30):
        fleet.magnitudes *= 1.06
        errors.append(fleet.step()[0])
    stretches = [recent.stretch for recent in fleet.memory.spread.recent.values()]
    assert 0.75 < np.exp(np.log(stretches).mean()) < 1.33
    assert np.median(errors[-5:]) < 1.3 * np.median(errors[8:13])


@pytest.mark.parametrize(
    ("bitrate", "drift", "most"),
    [(2, 0.03, 4e-5), (2, 0.1, 2e-4), (2, 0.3, 2e-3), (4, 0.03, 5e-7), (4, 0.1, 6e-6)],
)
def test_predictions_come_into_use_without_a_failure(bitrate, drift, most):
    """All clients' residuals shrink then: expected magnitudes follow at once, and shrink no further."""
    fleet = Fleet(bitrate, drift)
    rounds = [fleet.step() for _ in range(14)]
    assert fleet.memory.spread.predicted.all()
    assert not any(failed.any() for _, failed, _ in rounds)
    assert rounds[-1][0] < most


def test_predictions_are_used_a_little_longer_than_it_takes_to_begin():
    """Without that, a client near the limit would begin anew in every other round."""
    fleet, between = Fleet(2, drift=0.45), set()
    for _ in range(14):
        before = fleet.memory.spread.predicted.clone()
        _, failed, _ = fleet.step()
        assert not failed.any()
        now = fleet.memory.spread.predicted
        ratios = fleet.memory.residual_rms / fleet.memory.update_rms
        assert torch.equal(now, ratios < torch.where(before, 0.7, 0.5))
        between |= set(now[(ratios > 0.5) & (ratios < 0.7)].tolist())
    assert between == {False, True}


class Listener:
    """A server of some clients that send what they have."""

    def __init__(self, policy):
        self.updates = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
        self.policy, self.memory = policy, policy.init(3, 100, torch.device("cpu"))

    def hear(self, clients, understood=True):
        """One round of some clients: whether something was expected of each."""
        some = torch.tensor(clients)
        self.policy.plan(self.memory, some)
        side = self.policy.predict(self.memory, some)
        expected, estimates = side.any(dim=1).tolist(), self.updates[some] if understood else side
        failed = torch.full((len(some),), not understood)
        self.policy.learn(self.memory, Decoded(some, side, estimates, failed, 1.0))
        self.policy.finish(self.memory, estimates.mean(dim=0), len(some), 1.0)
        return expected


def test_of_who_is_forgotten_nothing_is_expected():
    server = Listener(Learned(capacity=2))
    used = [server.hear(clients) for clients in (*[[0, 1]] * 4, [0], [2], [1], [1], [1])]
    assert used == [*[[False] * 2] * 3, [True] * 2, [True], [False], [False], [False], [True]]
    server.hear([0])
    server.hear([2])
    server.hear([1], understood=False)
    assert not server.memory.spread.predicted.any()


def test_of_whom_a_round_has_no_place_for_nothing_is_kept():
    """Three clients take part, and two are remembered: the last two."""
    server = Listener(Learned(capacity=2))
    spread = server.memory.spread
    for _ in range(4):
        server.hear([0, 1, 2])
        assert spread.seen.tolist() == [False, True, True]
        assert not spread.predicted.any()
        torch.testing.assert_close(spread.common, spread.own.read([1, 2]).mean(dim=0))
    assert spread.stretch[0] == spread.doubt[0] == 1


def test_residuals_are_expected_to_be_those_from_what_is_predicted():
    server = Listener(Learned())
    for _ in range(3):
        assert server.hear([0]) == [False]
    usual = server.memory.spread.own.read([0])[0]
    assert usual.mean() < 1e-3 * server.updates[0].square().mean()
    server.updates = -server.updates
    assert server.hear([0]) == [True]
    usual = server.memory.spread.own.read([0])[0]
    torch.testing.assert_close(usual, server.updates[0].square(), rtol=0.01, atol=0)


@pytest.mark.parametrize("pace", [0.25, 1.0])
def test_running_means_of_squares_go_at_their_pace(pace):
    server = Listener(Learned(pace=pace))
    server.hear([0])
    before = server.updates[0].square()
    server.updates = 2 * server.updates
    server.hear([0])
    usual = server.memory.spread.own.read([0])[0]
    torch.testing.assert_close(usual, before * (1 + 3 * pace), rtol=0.01, atol=0)


@pytest.mark.parametrize("factor", [0.3, 1.0, 2**0.25, 2**0.5, 5.0])
def test_counts_of_larger_magnitudes(factor):
    magnitudes = np.random.default_rng(0).lognormal(0, 0.7, 100_000)
    bins = bins_of(torch.from_numpy(magnitudes)[None], 1.0)[0]
    counts = np.bincount(bins, minlength=BINS).astype(float)
    moved = _larger(np.stack([counts, 2 * counts]), factor)
    np.testing.assert_allclose(moved[1], 2 * moved[0])
    assert moved[0].sum() == pytest.approx(counts.sum())
    steps = (moved[0] - counts) @ np.arange(BINS) / counts.sum()
    assert steps == pytest.approx(2 * np.log2(factor), abs=1e-9)
