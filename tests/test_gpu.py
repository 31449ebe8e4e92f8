"""A GPU's kernels do what a CPU's compiled loops do, to the last bit.

Without a GPU, Triton's interpreter runs them.
"""

import os

import numpy as np
import pytest
import torch

import wzfl
from wzfl import bitpack, rotation
from wzfl.compressors import eden, modulo, qsgd, wyner_ziv
from wzfl.compressors.allocation import scattered
from wzfl.norms import energies, squared_distances
from wzfl.theory import lloyd_max

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton comes with torch on Linux alone")

from wzfl import gpu
from wzfl.gpu import bits as gpu_bits
from wzfl.gpu import draws, hadamard, norms, quantize
from wzfl.gpu.scatter import scatter
from wzfl.host import Arrivals, to_device, to_host

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DIMS = [1, 2, 5, 37, 1000, 7850]


@pytest.fixture(params=DIMS)
def vectors(request):
    return torch.randn(3, request.param, generator=torch.Generator().manual_seed(request.param))


def on_device(public):
    return public.to(DEVICE)


def test_draws(public):
    keys = on_device(public).keys_on_device("a")
    for dim in (1, 2, 2047, 5000):
        assert torch.equal(draws.uniform(keys, dim).cpu(), public.uniform("a", dim))
        assert torch.equal(draws.signs(keys, dim).cpu(), public.signs("a", dim))


@pytest.mark.parametrize("turn", [0, 1])
def test_rotations(vectors, public, turn):
    """Lengths with and without a rest that fills no block."""
    rotated = rotation.rotate_with_torch(vectors, public, turn)
    ours = rotation.rotate_on_gpu(vectors.to(DEVICE), on_device(public), turn)
    assert torch.equal(ours.cpu(), rotated)
    back = rotation.rotate_back_on_gpu(ours, on_device(public), turn)
    expected = rotation.rotate_back_with_torch(rotated, public, turn)
    assert torch.equal(back.cpu(), expected)
    for added in (vectors, vectors.T.contiguous().T, vectors[:1].half().expand(3, -1)):
        both = rotation.rotate_back_on_gpu(ours, on_device(public), turn, added.to(DEVICE))
        assert torch.equal(both.cpu(), expected + added)


def test_a_rotation_leaves_its_input_alone(public):
    vectors = torch.randn(3, 37, device=DEVICE)
    before = vectors.clone()
    for turn in (rotation.rotate_on_gpu, rotation.rotate_back_on_gpu):
        turn(vectors, on_device(public))
        assert torch.equal(vectors, before)


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (1, [(2, 3)]),
        (2, [(1, 5)]),
        (64, [(3, 7)]),
        (1024, [(2, 1)]),
        (256, [(1, 40)]),
        (64, [(2, 35), (1, 6), (2, 1)]),
    ],
)
def test_transforms_touch_their_parts_alone(block, parts):
    sizes = [block * count * lanes for count, lanes in parts]
    source = torch.randn(2, 11 + sum(sizes) + 3)
    expected, placed, start = source.clone(), [], 11
    for (count, lanes), size in zip(parts, sizes, strict=True):
        part = source[:, start : start + size].reshape(-1, block, lanes)
        expected[:, start : start + size] = rotation._hadamard(part).view(2, -1)
        placed.append((start, count, lanes))
        start += size
    target = source.to(DEVICE).clone()
    hadamard.transform(target, target, block, tuple(placed))
    assert torch.equal(target.cpu(), expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 9, 16])
@pytest.mark.parametrize("dithered", [True, False])
def test_folding_and_unfolding(vectors, public, bits, dithered):
    count = vectors.shape[1]
    noise = public.uniform("rounding", count)
    cell = torch.tensor([0.3, 1e-60, 20.0], dtype=torch.float64)
    covered = count * 2 // 3
    symbols, sums = modulo.fold(vectors, noise, cell, bits, covered)
    values, offsets, cells = vectors.to(DEVICE), noise.to(DEVICE), cell.to(DEVICE)
    ours, our_sums = quantize.fold(values, offsets, cells, bits, covered)
    assert ours.dtype == symbols.dtype
    assert torch.equal(ours.cpu(), symbols)
    assert torch.equal(our_sums.cpu().double(), sums)
    if not dithered:
        noise = offsets = None
    distances, sums = modulo.unfold(symbols, noise, vectors + 0.1, cell, bits, covered)
    near = (vectors + 0.1).to(DEVICE)
    ours, our_sums = quantize.unfold(ours, offsets, near, cells, bits, covered)
    assert torch.equal(ours.cpu(), distances)
    assert torch.equal(our_sums.cpu().double(), sums)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_the_nearest_centroids(vectors, bits):
    deviations = torch.tensor([1.0, 0.01, 7.0], dtype=torch.float64)
    codebook = [torch.from_numpy(each).to(DEVICE) for each in lloyd_max(bits)]
    indices, *sums = quantize.nearest(vectors.to(DEVICE), deviations.to(DEVICE), *codebook)
    expected, *expected_sums = eden.nearest(vectors, deviations, bits)
    assert torch.equal(indices.cpu(), expected)
    for got, wanted in zip(sums, expected_sums, strict=True):
        torch.testing.assert_close(got.cpu(), wanted, rtol=1e-10, atol=1e-12)


def test_looking_up():
    indices = torch.randint(8, (3, 5000), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    tables, out = torch.randn(3, 8), torch.zeros(3, 6000, device=DEVICE)
    quantize.lookup(indices[:, 1000:].to(DEVICE), tables.to(DEVICE), out[:, 500:4500])
    assert torch.equal(out[:, 500:4500].cpu(), tables.gather(1, indices[:, 1000:].long()))
    assert not out[:, :500].any()
    assert not out[:, 4500:].any()


@pytest.mark.parametrize(("bucket", "levels"), [(64, 1), (1024, 127), (1024, 32_767)])
def test_rounding_in_buckets(vectors, public, bucket, levels):
    vectors[1] = 0
    noise = public.uniform("rounding", vectors.shape[1])
    norms, symbols = quantize.rounded(vectors.to(DEVICE), noise.to(DEVICE), bucket, levels)
    expected_norms, expected = qsgd.rounded(vectors, noise, bucket, levels)
    assert torch.equal(norms.cpu(), expected_norms)
    assert torch.equal(symbols.cpu(), expected)


def test_columns_of_a_wider_matrix_fold_the_same(public):
    values, noise = torch.randn(3, 500), public.uniform("rounding", 500)
    cell = torch.ones(3, dtype=torch.float64)
    expected, _ = modulo.fold(values[:, 100:400], noise[:, 100:400], cell, 2, 10)
    wide = (values.to(DEVICE)[:, 100:400], noise.to(DEVICE)[:, 100:400], cell.to(DEVICE))
    assert torch.equal(quantize.fold(*wide, 2, 10)[0].cpu(), expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1001, 4096])
def test_packing(bits, count):
    symbols = torch.randint(2**bits, (3, count), generator=torch.Generator().manual_seed(count))
    symbols = symbols.to(torch.uint8)
    packed = gpu_bits.pack(symbols.to(DEVICE), bits)
    strings = bitpack.pack(symbols, bits)
    assert [row.tobytes() for row in to_host(packed)] == strings
    read = gpu_bits.unpack(to_device(strings, DEVICE), bits, count)
    assert torch.equal(read.cpu(), symbols)


def test_scattering():
    values = torch.randn(3, 400)
    places = torch.stack([torch.randperm(1000)[:400] for _ in values])
    spread = scatter(values.to(DEVICE), places.to(DEVICE), 1000)
    assert torch.equal(spread.cpu(), scattered(values, places, 1000))


def test_norms(vectors):
    values = vectors.to(DEVICE)
    mirrored = vectors.flip(0)
    exact = {"rtol": 1e-12, "atol": 0}
    torch.testing.assert_close(norms.energies(values).cpu(), energies(vectors), **exact)
    distances = norms.squared_distances(values, mirrored.to(DEVICE)).cpu()
    torch.testing.assert_close(distances, squared_distances(vectors, mirrored), **exact)
    alone = torch.cat([norms.energies(row[None]) for row in values])
    assert torch.equal(alone, norms.energies(values))
    nothing = values.new_zeros(1, 1).expand_as(values)
    torch.testing.assert_close(norms.squared_distances(values, nothing), norms.energies(values))


def test_rows_travel_both_ways():
    strings = [bytes([row] * 2_000_000) for row in range(3)]
    rows = to_device(strings, DEVICE)
    assert rows.device.type == DEVICE.type
    assert [row.tobytes() for row in to_host(rows)] == strings
    assert to_device([], DEVICE).shape == (0, 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="see test_a_gpu_gives_the_same_bytes")
@pytest.mark.parametrize("dim", [1, 300])
@pytest.mark.parametrize("bitrate", [1.5, 9])
@pytest.mark.parametrize(
    "name", ["wyner_ziv", "eden", "drive", "qsgd", "signsgd", "topk", "randk", "none"]
)
def test_all_that_a_compressor_does_on_a_gpu_gives_the_same_bytes(
    name, bitrate, dim, public, monkeypatch
):
    if name == "eden" and bitrate > 8:
        pytest.skip("takes up to 8 bits")
    compressor = wzfl.build_compressor(name, bitrate=bitrate)
    updates = torch.randn(3, dim, generator=torch.Generator().manual_seed(dim))
    side = updates.roll(1, dims=0)
    payloads = compressor.encode(updates, public)
    estimates = compressor.decode(payloads, side, public)
    monkeypatch.setattr(gpu, "is_usable", lambda device, count: True)
    assert compressor.encode(updates, public) == payloads
    torch.testing.assert_close(compressor.decode(payloads, side, public), estimates)


class Late(Arrivals):
    """What a GPU sends is there only once it is waited for."""

    def start(self, rows):
        self.sent, self.there = rows.numpy(), np.zeros(rows.shape, np.uint8)
        return self.there

    def wait(self, row):
        self.there[row] = self.sent[row]


@pytest.mark.skipif(torch.cuda.is_available(), reason="see test_a_gpu_gives_the_same_bytes")
@pytest.mark.parametrize("codec", [wyner_ziv, eden], ids=["wyner_ziv", "eden"])
def test_payloads_are_written_of_rows_that_have_arrived(codec, public, monkeypatch):
    compressor = wzfl.build_compressor(codec.__name__.split(".")[-1], bitrate=2)
    updates = torch.randn(3, 300, generator=torch.Generator().manual_seed(0))
    payloads = compressor.encode(updates, public)
    monkeypatch.setattr(gpu, "is_usable", lambda device, count: True)
    monkeypatch.setattr(codec, "Arrivals", Late)
    assert compressor.encode(updates, public) == payloads


def test_only_a_cuda_device_uses_them(monkeypatch):
    monkeypatch.setattr(gpu, "_compiles", lambda: True)
    assert not gpu.is_usable(torch.device("cpu"), 10)
    assert not gpu.is_usable(torch.device("meta"), 10)
    assert gpu.is_usable(torch.device("cuda"), 10)
    assert not gpu.is_usable(torch.device("cuda"), 2**31)


@pytest.mark.parametrize("installed", [True, False])
def test_where_nothing_compiles_torch_does_the_work(monkeypatch, caplog, installed):
    def fail(*_):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(gpu, "find_spec", lambda _: installed or None)
    monkeypatch.setattr(draws, "words", fail)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    gpu._compiles.cache_clear()
    assert not gpu.is_usable(torch.device("cuda"), 10)
    assert ("no kernels of Triton (Failed to find C compiler)" in caplog.text) == installed
    gpu._compiles.cache_clear()
