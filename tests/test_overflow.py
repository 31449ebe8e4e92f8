"""The limit above which a checksum of unwrapped indices refuses a payload."""

import numpy as np
import pytest
from scipy.stats import skellam

from wzfl.compressors.overflow import CHECK_BYTES, _threshold


def exceeds(limit, expected):
    """The chance that four squared differences exceed a limit, two and two together."""
    difference = np.arange(-127, 128)
    chance = skellam.pmf(difference, *[expected / CHECK_BYTES / 2] * 2)
    pair = np.bincount(
        np.add.outer(difference**2, difference**2).ravel(), np.outer(chance, chance).ravel()
    )
    above = np.append(np.cumsum(pair[::-1])[::-1], 0)  # the chance of that much or more
    return sum(
        pair[one] * above[min(max(limit + 1 - one, 0), len(pair))] for one in range(len(pair))
    )


@pytest.mark.parametrize("expected", [1e-6, 0.01, 0.3, 2.0, 50.0, 400.0])
def test_one_good_payload_in_a_million_is_refused(expected):
    limit = _threshold(expected)
    assert exceeds(limit, expected) <= 1e-6 * (1 + 1e-6)
    assert limit == 0 or exceeds(limit - 1, expected) > 1e-6 * (1 - 1e-6)


def test_where_no_index_overflows_sums_are_equal():
    assert _threshold(0.0) == 0
