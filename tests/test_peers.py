"""The same vectors through code that others wrote: fedjax's quantizers (Google, Apache-2.0)."""

import sys

import numpy as np
import pytest
import torch

from wzfl.compressors.eden import Eden
from wzfl.compressors.k_level import StochasticKLevel
from wzfl.compressors.terngrad import TernGrad
from wzfl.public import Public

jax = pytest.importorskip("jax", reason="needs the extra: pip install '.[peers]'")
compression = pytest.importorskip("fedjax.aggregators.compression")
walsh_hadamard = pytest.importorskip("fedjax.aggregators.walsh_hadamard")
absl_logging = pytest.importorskip("absl.logging")
# It holds pytest's capture file, and would close it when another test configures logging.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

DRAWS = 40


def gaussian(dim):
    return torch.randn(dim, generator=torch.Generator().manual_seed(0))


def lognormal(dim):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(dim, generator=generator).exp() * torch.randn(dim, generator=generator).sign()
    )


def our_errors(compressor, vector):
    """`[draws]` squared errors relative to the vector's energy."""
    updates = vector.expand(DRAWS, -1)
    public = Public(0, 0, range(DRAWS))
    estimates = compressor.decode(compressor.encode(updates, public), updates, public)
    return ((estimates - updates).square().sum(dim=1) / vector.square().sum()).numpy()


def their_errors(quantize, vector):
    values = vector.numpy()
    errors = [
        np.square(np.asarray(quantize(values, jax.random.PRNGKey(draw))) - values).sum()
        for draw in range(DRAWS)
    ]
    return np.array(errors) / np.square(values).sum()


def rotated(quantize):
    def run(values, key):
        rotation, rounding = jax.random.split(key)
        turned, shape = walsh_hadamard.structured_rotation(values, rotation)
        turned = quantize(turned, rounding)
        return walsh_hadamard.inverse_structured_rotation(turned, rotation, shape)

    return run


def drive(values, key):
    return compression.drive_pytree(values)


def k_level(levels):
    return lambda values, key: compression.uniform_stochastic_quantize(values, levels, key)


PAIRS = {
    "TernGrad": (TernGrad(bucket=None, clip=2.5), compression.terngrad_quantize),
    "2 levels": (StochasticKLevel(1, rotation=False), k_level(2)),
    "16 levels": (StochasticKLevel(4, rotation=False), k_level(16)),
    "2 levels, rotated": (StochasticKLevel(1), rotated(k_level(2))),
    "16 levels, rotated": (StochasticKLevel(4), rotated(k_level(16))),
    "DRIVE": (Eden(1), rotated(drive)),
}


@pytest.mark.parametrize("source", [gaussian, lognormal])
@pytest.mark.parametrize("pair", PAIRS)
def test_errors_agree_within_sampling(pair, source):
    compressor, quantize = PAIRS[pair]
    vector = source(2**13)
    ours, theirs = our_errors(compressor, vector), their_errors(quantize, vector)
    standard_error = np.sqrt((ours.var() + theirs.var()) / DRAWS)
    # TernGrad's standard deviation is about the mean there and about zero here: 1e-3 of room.
    assert abs(ours.mean() - theirs.mean()) < 4 * standard_error + 1e-3 * theirs.mean()
