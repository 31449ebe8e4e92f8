"""Compiled loops and torch operations do the same, to the last bit: a CPU's bytes are a GPU's."""

import json
import os
import subprocess
import sys

import numba
import numpy as np
import payloads
import pytest
import torch

from wzfl.compressors import e8, eden, modulo, posterior, qsgd, topk
from wzfl.compressors.allocation import in_order
from wzfl.compressors.values import restored, restored_with_torch
from wzfl.kernels import compiled
from wzfl.norms import energies, largest_magnitudes, squared_distances
from wzfl.public import Public, draw_signs, draw_uniform
from wzfl.rotation import rotate, rotate_back, rotate_back_with_torch, rotate_with_torch
from wzfl.theory import best_reach, lloyd_max

DIMS = [1, 2, 3, 5, 37, 1000, 7850, 65_537]
MORE_THAN_CACHES_HOLD = 2_700_000


@pytest.fixture(params=DIMS)
def vectors(request):
    return torch.randn(3, request.param, generator=torch.Generator().manual_seed(request.param))


@pytest.mark.parametrize("vectors", [*DIMS, MORE_THAN_CACHES_HOLD], indirect=True)
def test_rotations(vectors, public):
    rotated = rotate(vectors, public)
    assert torch.equal(rotated, rotate_with_torch(vectors, public))
    assert torch.equal(rotate_back(rotated, public), rotate_back_with_torch(rotated, public))


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(("name", "draw"), [("uniform", draw_uniform), ("signs", draw_signs)])
def test_draws(public, name, draw, dim):
    keys = public.keys("a").astype(np.int64)
    expected = torch.stack([draw(torch.tensor(key), dim) for key in keys])
    assert torch.equal(getattr(public, name)("a", dim), expected)


@pytest.mark.parametrize("levels", [2, 4, 65536])
def test_posterior_means(vectors, levels):
    reach, units = best_reach(levels, "dither"), torch.tensor([0.3, 1e-45, 20.0])
    vectors[0, 0] = torch.inf
    vectors[2, -1] = torch.nan
    table = posterior._table(levels, reach)
    expected = posterior.interpolated_with_torch(vectors, units.double(), table)
    assert torch.equal(posterior.estimates(vectors, units, levels, reach), expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 9, 16])
def test_folding_and_unfolding(vectors, public, bits):
    noise = public.uniform("rounding", vectors.shape[1])
    cell = torch.tensor([0.3, 1e-60, 20.0], dtype=torch.float64)
    covered = vectors.shape[1] * 2 // 3
    symbols, sums = modulo.fold(vectors, noise, cell, bits, covered)
    expected, expected_sums = modulo.fold_with_torch(vectors, noise, cell, bits, covered)
    assert torch.equal(symbols.int(), expected.int())
    assert torch.equal(sums, expected_sums)
    side = vectors + 0.1
    ours = modulo.unfold(symbols, noise, side, cell, bits, covered)
    theirs = modulo.unfold_with_torch(symbols, 0.5, noise, side, cell, bits, covered)
    for got, wanted in zip(ours, theirs, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
@pytest.mark.parametrize("deviation", [1.0, 0.3, 1.7e-46, 1e-44, 3e-39, 1e38, np.inf])
def test_centroids_change_exactly_at_the_boundaries(bits, deviation):
    """Also where quotients or limits leave float32."""
    _, boundaries = lloyd_max(bits)
    with np.errstate(over="ignore", invalid="ignore"):
        at = (boundaries * deviation).astype(np.float32)
    near = [np.nextafter(at, np.float32(side)) for side in (-np.inf, np.inf)]
    ends = np.array([0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38], np.float32)
    values = np.concatenate([at, *near, ends])
    vectors = torch.from_numpy(values[np.isfinite(values)])[None]
    deviations = torch.tensor([deviation], dtype=torch.float64)
    indices, _, _ = eden.nearest(vectors, deviations, bits)
    expected, _, _ = eden.nearest_with_torch(vectors, deviations, bits)
    assert torch.equal(indices.long(), expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_the_nearest_centroids(vectors, bits):
    deviations = torch.tensor([1.0, 0.01, 7.0], dtype=torch.float64)
    indices, *sums = eden.nearest(vectors, deviations, bits)
    expected, *expected_sums = eden.nearest_with_torch(vectors, deviations, bits)
    assert torch.equal(indices.long(), expected)
    for got, wanted in zip(sums, expected_sums, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
    table, found = torch.from_numpy(lloyd_max(bits)[0]).float(), torch.empty(vectors.shape)
    scales = torch.tensor([[2.0], [0.3], [-1.0]])
    eden.lookup(indices, table * scales, found)
    assert torch.equal(found, table[expected] * scales)


@pytest.mark.parametrize(("bucket", "levels"), [(1, 1), (64, 7), (1024, 127), (1024, 32_767)])
def test_rounding_in_buckets(vectors, public, bucket, levels):
    vectors[1] = 0
    noise = public.uniform("rounding", vectors.shape[1])
    norms, symbols = qsgd.rounded(vectors, noise, bucket, levels)
    expected_norms, expected = qsgd.rounded_with_torch(vectors, noise, bucket, levels)
    assert torch.equal(norms, expected_norms)
    assert torch.equal(symbols.int(), expected.int())
    values = restored(symbols, norms, bucket, levels)
    assert torch.equal(values, restored_with_torch(symbols, norms, bucket, levels))


def test_the_largest_coordinates(vectors):
    magnitudes = vectors.abs()
    magnitudes[1] = magnitudes[1].round()  # ties
    magnitudes[2] = 0
    for count in {1, (vectors.shape[1] + 2) // 3, vectors.shape[1]}:
        places = topk.largest(magnitudes, count)
        assert torch.equal(places, topk.largest_with_torch(magnitudes, count))
        for row, kept in zip(magnitudes, places, strict=True):
            in_order = sorted(range(len(row)), key=lambda place: (-float(row[place]), place))
            assert sorted(in_order[:count]) == kept.tolist()


@pytest.mark.parametrize("count", [1, 900, 15_000, 19_999, 20_000])
def test_the_largest_of_many_coordinates_where_a_sample_misleads(count):
    """It sees every fourth of 20 000: the largest, the smallest, or ones like all others."""
    usual = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    high, low = usual.clone(), usual.clone()
    high[:, ::4] *= 100
    low[:, ::4] /= 100
    for magnitudes in (usual.abs(), high.abs(), low.abs(), torch.ones(1, 20_000)):
        expected = topk.largest_with_torch(magnitudes, count)
        assert torch.equal(topk.largest(-magnitudes, count), expected)


@pytest.mark.parametrize(("dim", "count"), [(1, 1), (10, 4), (4096, 4096), (199_210, 70_001)])
def test_subsets(public, dim, count):
    subset = public.subset("a", dim, count)
    start = subset[:, :1]
    stride = (subset[:, 1:2] - start) % dim if count > 1 else 0
    assert torch.equal(subset, (torch.arange(count) * stride + start) % dim)
    assert torch.equal(in_order(subset, dim), subset.sort(dim=1).values)


def test_norms(vectors):
    double = vectors.double()
    torch.testing.assert_close(energies(vectors), double.square().sum(dim=1), rtol=1e-12, atol=0)
    distances = (double - double.flip(0)).square().sum(dim=1)
    torch.testing.assert_close(
        squared_distances(vectors, vectors.flip(0)), distances, rtol=1e-12, atol=0
    )
    assert torch.equal(largest_magnitudes(vectors), vectors.abs().amax(dim=1))
    for bad in (float("nan"), float("inf"), float("-inf")):
        vectors[1, -1] = bad
        assert largest_magnitudes(vectors).isfinite().tolist() == [True, False, True]


def test_what_is_compiled_does_what_its_source_says():
    """Python itself, without a compiler, sends and reads the same bytes."""
    interpreted = subprocess.run(
        [sys.executable, "-W", "ignore", payloads.__file__],  # of words that wrap around
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(interpreted.stdout) == payloads.payloads()


def computed_on(device):
    """What each operation that has a compiled loop gives, of vectors on `device`."""
    ones = torch.ones(2, 40, device=device)
    cell = torch.ones(2, dtype=torch.float64, device=device)
    public = Public(1, 2, (4, 9), scale=torch.ones(2))
    object.__setattr__(public, "scale", public.scale.to(device))  # it would look at its values
    noise = public.uniform("rounding", 40)
    cubes, eights = (each.fold(ones, noise, cell, 2, 16) for each in (modulo, e8))
    symbols, found = ones.to(torch.uint8), torch.empty_like(ones)
    eden.lookup(symbols, torch.ones(2, 4, device=device), found)
    return [
        *(noise, public.signs("signs", 40), rotate(ones, public), rotate_back(ones, public)),
        *(energies(ones), squared_distances(ones, ones), largest_magnitudes(ones)),
        *(*cubes, *modulo.unfold(cubes[0], noise, ones, cell, 2, 16)),
        *(*eights, *e8.unfold(eights[0], noise, ones, cell, 2, 16)),
        *(*eden.nearest(ones, cell, 2), *qsgd.rounded(ones, noise, 16, 7), found),
        restored(symbols, torch.ones(2, 3, device=device), 16, 7),
    ]


def test_what_is_not_on_a_cpu_meets_no_compiled_loop():
    """On a device without any memory, which a loop would read; shapes are a CPU's."""
    for ours, theirs in zip(computed_on("meta"), computed_on("cpu"), strict=True):
        assert ours.is_meta
        assert ours.shape == theirs.shape


def test_where_no_cache_can_be_written_loops_are_compiled_all_the_same():
    source = eval("lambda x: x + 1")  # without a file, which a cache would lie beside
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(source)
    assert compiled(source)(1) == 2
