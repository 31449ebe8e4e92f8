"""The server's model of residuals, payloads that are planned from it, and what it learns of them."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest

from wzfl import InputError, PayloadError
from wzfl.compressors import stretch
from wzfl.compressors.envelope import open_rows, seal_rows
from wzfl.compressors.learned_slepian_wolf import LearnedSlepianWolf
from wzfl.compressors.plane_plan import HASH_BYTES, Plan, bits_needed, hashed, plan
from wzfl.compressors.planned_planes import PlannedPlanes
from wzfl.kernels import density as kernel
from wzfl.kernels.density import BINS, EDGES
from wzfl.learned import Learned
from wzfl.public import Public
from wzfl.residual_model import Density, Expectation, Recent, bins_of, uncertainty
from wzfl.spread import _larger

DIM, CLIENTS, UNIT = 2**13, 4, 0.25


def laplace_density():
    """Of residuals whose mean magnitude is the middle of their context's bin."""
    middles = (EDGES[:-1] + EDGES[1:]) / 2
    below = 1 - np.exp(-EDGES[None] / middles[:, None])
    return Density.of(1e6 * np.diff(below, axis=1), UNIT)


def residuals_of(density, contexts, seed=0):
    anywhere = Recent.unseen(np.arange(len(contexts)), contexts)
    values = np.empty(len(contexts))
    uniform = np.random.default_rng(seed).random(len(contexts))
    kernel.draw(anywhere.starts, anywhere.widths, contexts, uniform, density.tables, values)
    return values * density.unit


def some_contexts(count=DIM, seed=1):
    return np.random.default_rng(seed).integers(50, 70, count).astype(np.uint8)


def cells_of(residuals, cell, seed=2):
    """Starts and widths of dithered cells around residuals."""
    noise = np.random.default_rng(seed).random(len(residuals))
    starts = (np.floor(residuals / cell + noise) - noise) * cell
    return starts, np.full(len(starts), cell)


def test_bins_are_half_octaves():
    assert EDGES[0] == 0
    assert len(EDGES) == BINS + 1
    assert EDGES[61] == 1
    np.testing.assert_allclose(EDGES[3::2] / EDGES[1:-2:2], 2)
    magnitudes = torch.tensor([[0.0, 1.0, 1.4, 1.5, 1.99, 2.0]])
    assert bins_of(magnitudes, 1.0).tolist() == [[0, 61, 61, 62, 62, 63]]


@pytest.mark.parametrize(
    ("start", "width"), [(0.3, 2.0), (-1.0, 1.5), (-3.0, 0.7), (-100.0, 200.0)]
)
def test_what_is_thought_of_a_residual_in_a_cell_is_bayes_rule(start, width):
    density, context = laplace_density(), 62
    share = density.tables[0, context]

    def chance(value):
        bin = np.searchsorted(EDGES, abs(value), "right") - 1
        return share[bin] / (EDGES[bin + 1] - EDGES[bin]) / 2

    inside = sorted([*-EDGES[40:75], 0, *EDGES[40:75]])
    points = [edge for edge in inside if start < edge < start + width]
    ends = [start, *points, start + width]

    def integral(power):
        return sum(quad(lambda v: v**power * chance(v), *pair)[0] for pair in pairwise(ends))

    expectation = Expectation(np.full((1, 1), context, np.uint8), density)
    means, squares, counts = expectation.explain(
        0, np.array([start * UNIT]), np.array([width * UNIT]), 1.0
    )
    total = integral(0)
    assert means[0] / UNIT == pytest.approx(integral(1) / total, rel=1e-4, abs=1e-6)
    assert squares[0] / UNIT**2 == pytest.approx(integral(2) / total, rel=1e-4)
    assert counts.sum() == pytest.approx(1)


def test_counts_are_posterior_chances():
    density, contexts = laplace_density(), np.full(DIM, 60, np.uint8)
    residuals = residuals_of(density, contexts)
    expectation = Expectation(contexts[None], density)
    fine, coarse = (
        expectation.explain(0, *cells_of(residuals, size * UNIT), 1.0)[2] for size in (1e-6, 1.0)
    )
    bins = np.bincount(bins_of(torch.tensor(residuals)[None].abs(), UNIT)[0], minlength=BINS)
    np.testing.assert_allclose(fine[60], bins, atol=1)
    # Coarse cells tell little: close to what was expected, with as much in all.
    assert coarse.sum() == pytest.approx(DIM)
    np.testing.assert_allclose(coarse[60] / DIM, density.tables[0, 60], atol=0.02)


def test_residuals_are_drawn_as_they_are_distributed():
    density, contexts = laplace_density(), np.full(DIM, 60, np.uint8)
    residuals = residuals_of(density, contexts) / UNIT
    share, below = density.tables[0, 60], density.tables[1, 60]

    def chance_below(values):
        bins = (np.searchsorted(EDGES, np.abs(values), "right") - 1).clip(0, BINS - 1)
        part = (np.abs(values) - EDGES[bins]) / (EDGES[bins + 1] - EDGES[bins])
        return 0.5 + 0.5 * np.sign(values) * (below[bins] + part * share[bins])

    assert kstest(residuals, chance_below).pvalue > 0.05
    starts, widths = cells_of(residuals, 0.7)
    again, uniform = np.empty(DIM), np.random.default_rng(5).random(DIM)
    kernel.draw(starts, widths, contexts, uniform, density.tables, again)
    assert ((again >= starts) & (again <= starts + widths)).all()
    assert kstest(again, chance_below).pvalue > 0.05


@pytest.mark.parametrize("apart", [-8, 1, 64])
def test_odds_of_a_bit_are_those_of_its_stretches(apart):
    density, contexts, cell = laplace_density(), some_contexts(200), 0.3
    places = np.random.default_rng(3).normal(size=200) * 20
    zero = np.floor(places).astype(np.int64) - abs(apart) // 2
    one, found = zero + apart, np.empty(200)
    kernel.odds(zero, one, places, cell, contexts, density.tables, found)

    def bits_of(start, index):
        values = (start - places)[index : index + 1], np.full(1, float(abs(apart)))
        return kernel.information(*values, cell, contexts[index : index + 1], density.tables)

    expected = [bits_of(one, index) - bits_of(zero, index) for index in range(200)]
    np.testing.assert_allclose(np.log2(found), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7])
def test_by_how_much_residuals_are_larger_is_seen_in_coarse_cells(factor):
    density, contexts = laplace_density(), some_contexts()
    residuals = factor * residuals_of(density, contexts)
    cells = cells_of(residuals, 4 * float(np.abs(residuals).mean()))
    recent = Recent(np.arange(DIM), contexts, *cells)
    found = Expectation(contexts[None], density).likeliest_stretch(recent)
    assert found == pytest.approx(factor, rel=0.1)


def test_uncertainty_is_an_entropy():
    counts = np.zeros((BINS, BINS))
    assert uncertainty(counts) == np.inf
    counts[3, 4], counts[5, 6] = 2.0, 6.0
    assert uncertainty(counts) == 0
    counts[3, 7] = 2.0
    assert uncertainty(counts) == pytest.approx(0.4)


@pytest.mark.parametrize("bits", [0.25, 1.0, 2.0, 4.0, 8.0])
def test_a_plan_uses_its_budget(bits):
    density, contexts = laplace_density(), some_contexts()
    recent = Recent(np.arange(DIM), contexts, *cells_of(residuals_of(density, contexts), 1e-3))
    budget = int(bits * DIM)
    found, error = plan(recent, np.zeros(DIM, np.float32), density, 0.05, DIM, budget)
    used = sum(found.sent) + 8 * HASH_BYTES * sum(hashed(found.sent))
    assert 0.97 * budget <= used <= budget
    assert Plan.from_bytes(found.to_bytes()) == found
    assert found.level > 0
    assert error < 2.0 ** (-2 * bits + 2)
    expected = np.ones(DIM, np.float32)
    assert plan(recent, expected, density, 0.05, DIM, budget)[0].level == 0
    assert plan(recent, expected, density, 0.05, DIM, 7) is None


@pytest.mark.parametrize(
    "data", [b"", b"1234567", b"12345678", bytes(12), bytes(4 * 50), b"\xff" * 12]
)
def test_what_can_not_be_a_plan_is_refused(data):
    with pytest.raises(InputError, match="plan"):
        Plan.from_bytes(data)


@pytest.fixture(scope="module")
def planned():
    """Planes planned for Laplacian residuals, a vector, what is expected of it, and contexts."""
    density, contexts = laplace_density(), some_contexts()
    residuals = residuals_of(density, contexts)
    expected = np.random.default_rng(7).standard_normal(DIM).astype(np.float32)
    recent = Recent(np.arange(DIM), contexts, *cells_of(residuals, 1e-3))
    found, _ = plan(recent, expected, density, 0.1, DIM, 3 * DIM)
    noise = np.random.default_rng(8).random(DIM).astype(np.float32)
    vector = (expected + residuals_of(density, contexts, seed=3)).astype(np.float32)
    return PlannedPlanes(found, DIM, noise), vector, expected, contexts, density


def test_a_plane_of_almost_a_bit_each_needs_all():
    assert bits_needed(0.9999, 100) == 100
    assert bits_needed(0.01, 100) < 100


def test_what_is_planned_is_read(planned):
    planes, vector, expected, contexts, density = planned
    reading = planes.read(memoryview(planes.write(vector)), expected, contexts, density)
    residuals = vector.astype(np.float64) - expected
    assert not reading.misread
    assert reading.stretch == 1
    slack = 1e-6
    assert (reading.starts <= residuals + slack).all()
    assert (residuals <= reading.starts + reading.widths + slack).all()
    np.testing.assert_allclose(reading.widths, planes.plan.cell)


def test_a_misread_plane_leaves_those_above_it(planned):
    planes, vector, expected, contexts, density = planned
    body = bytearray(planes.write(vector))
    hashes = sum(hashed(planes.plan.sent))
    body[1 + HASH_BYTES * (hashes - 2)] ^= 1  # of the plane above the lowest
    reading = planes.read(memoryview(body), expected, contexts, density)
    residuals = vector.astype(np.float64) - expected
    assert reading.misread
    np.testing.assert_allclose(reading.widths, 4 * planes.plan.cell)
    assert (reading.starts <= residuals + 1e-6).all()
    assert (residuals <= reading.starts + reading.widths + 1e-6).all()
    body[1] ^= 1  # of the highest
    reading = planes.read(memoryview(body), expected, contexts, density)
    means, squares, counts = Expectation(contexts[None], density).explain(
        0, reading.starts, reading.widths, 1.0
    )
    assert abs(means).max() == 0
    assert np.isfinite(squares).all()
    np.testing.assert_allclose(counts.sum(axis=1), np.bincount(contexts, minlength=BINS))


@pytest.mark.parametrize(
    "change", [lambda body: body[:-1], lambda body: body + b"0", lambda _: b""]
)
def test_bodies_of_another_size_are_refused(planned, change):
    planes, vector, *known = planned
    with pytest.raises(PayloadError, match="expected"):
        planes.read(memoryview(change(planes.write(vector))), *known)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.31, 3.0])
def test_a_client_tells_how_much_larger_its_update_is(factor):
    values = np.random.default_rng(0).laplace(size=DIM).astype(np.float32)
    cell = 1.7
    step = stretch.step_for(values * np.float32(factor), cell, stretch.level(values, cell))
    assert stretch.factor(step) == pytest.approx(factor, rel=0.03)
    assert stretch.step_for(0 * values, cell, 0.1) == -128
    assert stretch.step_for(1e9 * values, cell, 0.1) == 127


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
        self.policy.learn(self.memory, self.clients, side, estimates, failed, 1.0)
        self.policy.finish(self.memory, estimates.mean(dim=0), CLIENTS, 1.0)
        error = (estimates - self.updates).square().sum() / self.updates.square().sum()
        return float(error), failed, payloads


def misled(compressor, payloads, public, dim=DIM):
    """All hashes of the first client are wrong."""
    one = public.rows(slice(0, 1))
    (body,) = open_rows(compressor, payloads[:1], dim, one)
    wrong = bytearray(body)
    end = 1 + HASH_BYTES * sum(hashed(Plan.from_bytes(public.plans[0]).sent))
    wrong[1:end] = bytes(255 - byte for byte in wrong[1:end])
    return seal_rows(compressor, [bytes(wrong)], dim, one) + payloads[1:]


def test_it_learns_where_the_energy_is():
    """Without any prediction, far beyond what a rotation allows: 0.13 at 2 bits."""
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
        fleet.policy.learn(fleet.memory, fleet.clients, side, estimates, failed, 1.0)
        fleet.policy.finish(fleet.memory, estimates.mean(dim=0), len(estimates), 1.0)
        fleet.clients = torch.arange(CLIENTS)


def test_short_vectors_are_sent_as_without_a_plan():
    """Hashes alone would take a good part of the bits."""
    fleet = Fleet(4, dim=40)
    for _ in range(4):
        error, *_ = fleet.step()
        assert error < 0.1
    assert not any(fleet.plan()[0].plans)


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


def test_plans_allow_for_events_that_were_not_drawn():
    """Of sixteen thousand residuals, none may show what happens to one in a hundred thousand."""
    density, contexts = laplace_density(), some_contexts()
    recent = Recent(np.arange(DIM), contexts, *cells_of(residuals_of(density, contexts), 1e-3))
    found, _ = plan(recent, np.zeros(DIM, np.float32), density, 0.0, DIM, 2 * DIM)
    assert min(found.sent) > 32  # some three such events, in bits


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
    """Or a client near the limit would begin anew in every other round."""
    fleet, between = Fleet(2, drift=0.45), set()
    for _ in range(14):
        before = fleet.memory.spread.predicted.clone()
        _, failed, _ = fleet.step()
        assert not failed.any()
        ratios, now = (
            fleet.memory.residual_rms / fleet.memory.update_rms,
            fleet.memory.spread.predicted,
        )
        assert torch.equal(now, ratios < torch.where(before, 0.7, 0.5))
        between |= set(now[(ratios > 0.5) & (ratios < 0.7)].tolist())
    assert between == {False, True}


class Listener:
    """A server of some clients that send what they have."""

    def __init__(self, policy):
        self.updates = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
        self.policy, self.memory = policy, policy.init(3, 100, torch.device("cpu"))

    def hear(self, clients, understood=True):
        """Of whom something was expected."""
        some = torch.tensor(clients)
        self.policy.plan(self.memory, some)
        side = self.policy.predict(self.memory, some)
        expected, estimates = side.any(dim=1).tolist(), self.updates[some] if understood else side
        failed = torch.full((len(some),), not understood)
        self.policy.learn(self.memory, some, side, estimates, failed, 1.0)
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


def test_residuals_are_expected_to_be_those_from_what_is_predicted():
    server = Listener(Learned())
    while not server.hear([0])[0]:
        usual = server.memory.spread.own.read([0])[0]
    assert usual.mean() < 1e-3 * server.updates[0].square().mean()
    server.updates = -server.updates
    server.hear([0])
    usual = server.memory.spread.own.read([0])[0]
    torch.testing.assert_close(usual, server.updates[0].square(), rtol=0.01, atol=0)


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
