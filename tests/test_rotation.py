import pytest
import torch

from wzfl.compressors.eden import Eden
from wzfl.metrics import relative_error
from wzfl.public import Public
from wzfl.rotation import rotate, rotate_back

DIMS = [1, 2, 3, 37, 128, 1000, 7850, 65_537]


@pytest.mark.parametrize("dim", DIMS)
def test_it_keeps_norms_and_is_undone(public, dim):
    vectors = torch.randn(3, dim, generator=torch.Generator().manual_seed(dim))
    rotated = rotate(vectors, public)
    torch.testing.assert_close(rotated.norm(dim=1), vectors.norm(dim=1), rtol=1e-5, atol=0)
    back = rotate_back(rotated, public)
    torch.testing.assert_close(back, vectors, rtol=0, atol=1e-5)
    assert torch.equal(rotate_back(rotated, public, added=vectors), back + vectors)


def test_what_is_added_is_added_once(public):
    vectors = torch.randn(3, 37)
    back = rotate_back(vectors, public, turns=2)
    assert torch.equal(rotate_back(vectors, public, turns=2, added=vectors), back + vectors)


@pytest.mark.parametrize("dim", [37, 1000])
def test_it_is_orthogonal(dim):
    """The rows of the identity map to an orthonormal basis, under one client's randomness."""
    public = Public(0, 0, (5,) * dim)
    rotated = rotate(torch.eye(dim), public)
    torch.testing.assert_close(rotated @ rotated.T, torch.eye(dim), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dim", [1000, 65_537])
def test_a_row_does_not_depend_on_its_batch(public, dim):
    vectors = torch.randn(3, dim, generator=torch.Generator().manual_seed(0))
    together = rotate(vectors, public)
    for row in range(3):
        assert torch.equal(
            rotate(vectors[[row]], public.rows(slice(row, row + 1))), together[[row]]
        )


@pytest.mark.parametrize("place", [0, 0.3, 0.7, 0.999, 1])
@pytest.mark.parametrize("dim", [7850, 65_537, 199_210])
def test_energy_from_anywhere_ends_up_everywhere(dim, place):
    """A spike, wherever it is, leaves about the same energy in each tenth of the output."""
    clients = 32
    spikes = torch.zeros(clients, dim)
    spikes[:, int(place * (dim - 1))] = 1
    rotated = torch.cat([rotate(spikes[[row]], Public(0, 0, (row,))) for row in range(clients)])
    energies = torch.stack([part.square().sum() for part in rotated.tensor_split(10, dim=1)])
    assert (energies / clients - 0.1).abs().max() < 0.02


def test_what_looks_like_gradients_quantizes_like_a_gaussian():
    """Layers of very different energy, heavy tails and exact zeros: 4 bits lose what theory says."""
    clients, dim = 4, 199_210
    generator = torch.Generator().manual_seed(0)
    updates = torch.randn(clients, dim, generator=generator)
    updates *= torch.randn(clients, dim, generator=generator).mul_(2).exp_()
    updates[:, :156_800:3] = 0
    updates[:, -2010:] *= 30
    compressor, public = Eden(4), Public(0, 0, tuple(range(clients)))
    estimates = compressor.decode(compressor.encode(updates, public), updates, public)
    error = relative_error(estimates, updates)
    assert error == pytest.approx(compressor.relative_variance(dim), rel=0.02)


def test_a_rotated_spike_looks_gaussian(public):
    spike = torch.zeros(3, 65_537)
    spike[:, -1] = 65_537**0.5
    fourth_moment = float(rotate(spike, public).pow(4).mean())
    assert 2.5 < fourth_moment < 4.5  # 3 for a Gaussian of variance 1
