"""The server's model of residuals, and payloads that are planned from it."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest

from wzfl import InputError, PayloadError
from wzfl.compressors import stretch
from wzfl.compressors.plane_plan import HASH_BYTES, Plan, bits_needed, hashed, plan
from wzfl.compressors.planned_planes import PlannedPlanes
from wzfl.kernels import density as kernel
from wzfl.kernels.density import BINS, EDGES
from wzfl.residual_model import Density, Expectation, Recent, bins_of, uncertainty

DIM, UNIT = 2**13, 0.25


def laplace_density():
    """The density of residuals whose mean magnitude is the middle of their context's bin."""
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


def test_plans_allow_for_events_that_were_not_drawn():
    """Of sixteen thousand residuals, none may show what happens to one in a hundred thousand."""
    density, contexts = laplace_density(), some_contexts()
    recent = Recent(np.arange(DIM), contexts, *cells_of(residuals_of(density, contexts), 1e-3))
    found, _ = plan(recent, np.zeros(DIM, np.float32), density, 0.0, DIM, 2 * DIM)
    assert min(found.sent) > 32  # some three such events, in bits
