from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

import wzfl
from wzfl import InputError
from wzfl.compressors import e8
from wzfl.compressors.cells import E8, e8_moments
from wzfl.compressors.wyner_ziv_e8 import WynerZivE8
from wzfl.kernels import e8 as kernel
from wzfl.public import Public
from wzfl.theory import gap_db

DIM = 2**17


def planned(scale, clients=1, round=1):
    return Public(seed=0, round=round, clients=range(clients), scale=torch.full((clients,), scale))


def gaussian(seed, deviation=1.0, dim=DIM, clients=1):
    generator = torch.Generator().manual_seed(seed)
    return deviation * torch.randn(clients, dim, generator=generator)


def nearest(places):
    points = np.empty_like(places)
    kernel.nearest_rows(places, points)
    return points


def minimal_vectors():
    """112 with two coordinates of +-1, 128 of +-1/2 with an even number of minuses."""
    whole = [
        vector
        for vector in product((-1.0, 0.0, 1.0), repeat=8)
        if sum(abs(each) for each in vector) == 2
    ]
    half = [vector for vector in product((-0.5, 0.5), repeat=8) if sum(vector) % 2 == 0]
    return np.array(whole + half)


def test_its_kissing_number_is_240():
    vectors = minimal_vectors()
    assert len(vectors) == 240
    assert np.array_equal(nearest(0.51 * vectors), vectors)
    assert not nearest(0.49 * vectors).any()


def test_no_point_is_nearer_than_the_nearest():
    """Voronoi cells of E8 are bounded by minimal vectors and those of norm 4."""
    places = np.random.default_rng(0).normal(scale=3, size=(2000, 8))
    points, vectors = nearest(places), minimal_vectors()
    distance = ((places - points) ** 2).sum(axis=1)
    for vector in np.concatenate([vectors, 2 * np.eye(8), -2 * np.eye(8)]):
        assert (((places - points - vector) ** 2).sum(axis=1) >= distance).all()


def test_labels_name_points():
    points = nearest(np.random.default_rng(0).normal(scale=30, size=(500, 8)))
    label, back = np.empty(8), np.empty(8)
    for point in points:
        kernel.label_of(point, label)
        assert np.array_equal(label, np.round(label))
        kernel.point_of(label, back)
        assert np.array_equal(point, back)


def test_the_moment_of_its_cells_is_the_published_one():
    """929/12960 = 0.071682 (Conway & Sloane 1982), with the dither that both ends draw."""
    dither, drawn = np.empty((2**17, 8)), np.random.default_rng(0).random((2**17, 8))
    for noise, row in zip(drawn, dither, strict=True):
        kernel.point_of(noise, row)
    assert ((nearest(dither) - dither) ** 2).mean() == pytest.approx(929 / 12960, rel=3e-3)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_compiled_loops_are_what_torch_does(bits):
    values = gaussian(0, dim=800, clients=3) * torch.tensor([[1.0], [1e-3], [100.0]])
    noise = planned(1.0, clients=3).uniform("rounding", 800)
    cell = torch.tensor([0.3, 1e-60, 20.0], dtype=torch.float64)
    symbols, sums = e8.fold(values, noise, cell, bits, 400)
    expected, expected_sums = e8.fold_with_torch(values, noise, cell, bits, 400)
    assert torch.equal(symbols.int(), expected)
    assert torch.equal(sums, expected_sums)
    side = values + 0.1
    ours = e8.unfold(symbols, noise, side, cell, bits, 400)
    theirs = e8.unfold_with_torch(symbols, noise, side, cell, bits, 400)
    for got, wanted in zip(ours, theirs, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("bits", range(1, 9))
def test_steps_are_those_of_least_error(bits):
    def error(step):
        energy, correlation, _ = e8_moments(bits, float(step), 1.0)
        return energy - 2 * correlation

    step = E8().step(bits)
    best = minimize_scalar(error, bounds=(step / 2, 2 * step), method="bounded").fun
    assert 1 + error(step) == pytest.approx(1 + best, rel=0.04)  # of what is drawn


@pytest.mark.parametrize(("bits", "gap"), [(2, 5.5), (3, 5.7), (4, 6.1)])
def test_the_gap_to_the_limit_is_less_than_that_of_cubes(bits, gap):
    updates = gaussian(0, clients=8)
    side = updates + gaussian(1, 0.1, clients=8)
    gaps = {}
    for name in ("wyner_ziv", "wyner_ziv_e8"):
        compressor = wzfl.build_compressor(name, bitrate=bits)
        public = planned(0.1, clients=8)
        payloads = compressor.encode(updates, public)
        error = (compressor.decode(payloads, side, public) - updates).square().mean()
        gaps[name] = gap_db(float(error) / 0.01, 8 * len(payloads[0]) / DIM)
    assert 0 < gaps["wyner_ziv_e8"] < gap
    assert gaps["wyner_ziv_e8"] + 1.6 < gaps["wyner_ziv"]


@pytest.mark.parametrize("bitrate", [0.5, 1, 2, 3.5])
@pytest.mark.parametrize("estimator", ["plain", "wiener"])
def test_the_gain_is_the_measured_one(bitrate, estimator):
    compressor = WynerZivE8(bitrate, estimator=estimator)
    updates = gaussian(0, clients=4)
    side, public = updates + gaussian(1, 0.1, clients=4), planned(0.12, clients=4)
    moved = compressor.decode(compressor.encode(updates, public), side, public) - side
    gain = float(moved.square().sum() / (updates - side).square().sum())
    assert gain == pytest.approx(compressor.residual_gain(DIM, 1.2), rel=0.03)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_a_right_scale_raises_no_alarm_and_a_wrong_one_does(bits):
    compressor, rows, dim = WynerZivE8(bits), 200, 4096
    updates = gaussian(0, clients=rows, dim=dim)
    public = planned(1.0, clients=rows)
    payloads = compressor.encode(updates, public)
    for ratio, noticed in ((1.0, False), (10.0, True)):
        side = updates + gaussian(1, ratio, clients=rows, dim=dim)
        _, failed = compressor.decode_checked(payloads, side, public)
        assert failed.all() if noticed else not failed.any()


@pytest.mark.parametrize(
    "setting",
    [
        {"rounding": "stochastic"},
        {"reach": 2.0},
        {"rotation": False},
        {"estimator": "posterior_mean"},
    ],
)
def test_what_it_can_not_do_is_refused(setting):
    message = (
        "^wyner_ziv_e8 takes rounding=dither, reach=null, rotation=true and estimator plain or wiener;"
        r" got WynerZivE8\(bitrate=4"
    )
    with pytest.raises(InputError, match=message):
        WynerZivE8(4, **setting)


def test_symbols_of_more_than_eight_bits_are_refused():
    assert WynerZivE8(4, symbol_bits=8).symbol_bits == 8
    with pytest.raises(InputError, match="symbol_bits must be 1 to 8 with rounding dither; got 9"):
        WynerZivE8(4, symbol_bits=9)
