"""Intervals and paired differences, against what can be counted by hand and against Student's tables."""

import numpy as np
import pandas as pd
import pytest

from wzfl.reporting.intervals import (
    Difference,
    discoveries,
    kind_of_interval,
    mean_interval,
    means_by,
    paired_difference,
)


def test_of_three_values_the_interval_is_their_range():
    low, high = mean_interval(np.array([0.3, 0.1, 0.2]))
    assert (low, high) == pytest.approx((0.1, 0.3))


def test_of_one_value_it_is_that_one():
    assert mean_interval(np.array([0.3])) == (0.3, 0.3)


def test_of_many_values_it_is_that_of_the_normal_law():
    values = np.random.default_rng(1).standard_normal(400)
    low, high = mean_interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


@pytest.mark.parametrize(("seeds", "coverage"), [(2, 0.5), (3, 0.75), (5, 0.83)])
def test_of_few_values_it_covers_less_than_it_says(seeds, coverage):
    """As the reports tell, of Gaussian values; 0.05 is three standard errors."""
    low, high = mean_interval(np.random.default_rng(3).standard_normal((seeds, 500)))
    assert ((low < 0) & (high > 0)).mean() == pytest.approx(coverage, abs=0.05)


def test_what_is_a_range_is_called_one():
    for seeds in range(2, 7):
        values = np.arange(seeds, dtype=float)
        is_range = mean_interval(values) == (values[0], values[-1])
        assert is_range == (kind_of_interval(seeds) == "range")


def test_intervals_are_the_same_each_time_and_column_by_column():
    values = np.random.default_rng(2).standard_normal((6, 3))
    together = np.array(mean_interval(values))
    assert np.array_equal(together, np.array(mean_interval(values)))
    alone = np.array([mean_interval(column) for column in values.T]).T
    assert together == pytest.approx(alone)


def test_a_seed_that_has_ended_counts_no_more():
    rows = pd.DataFrame(
        [(1, 0, 1.0), (1, 1, 3.0), (2, 0, 5.0), (1, 0, 2.0), (3, 1, np.nan)],
        columns=["round", "seed", "loss"],
    )
    found = means_by(rows, "round", "loss")
    assert found["mean"].to_dict() == {1: 2.25, 2: 5.0}  # seed 0 has two rows in round 1
    assert (found.low[1], found.high[1]) == (1.5, 3.0)
    assert found.low[2] == found.high[2] == 5.0
    assert means_by(rows[:0], "round", "loss").empty


def test_differences_are_paired_and_student_s():
    """Differences 1, 2, 3: mean 2, standard error 1/√3, t(2) at 97.5 % is 4.3027."""
    ours = pd.Series({0: 2.0, 1: 4.0, 2: 6.0, 7: 100.0})
    theirs = pd.Series({2: 3.0, 1: 2.0, 0: 1.0, 8: -5.0})
    difference = paired_difference(ours, theirs)
    assert (difference.mean, difference.seeds) == (2.0, 3)
    assert difference.low == pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-4)
    assert difference.high == pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-4)
    assert difference.p == pytest.approx(0.0742, abs=1e-4)
    assert not difference.sure


def test_one_seed_makes_no_difference_sure():
    one = paired_difference(pd.Series({0: 2.0}), pd.Series({0: 1.0}))
    assert (one.mean, one.seeds) == (1.0, 1)
    assert np.isnan([one.low, one.high, one.p]).all()
    assert not one.sure
    assert paired_difference(pd.Series({0: 2.0}), pd.Series({1: 1.0})).seeds == 0


def test_differences_that_are_all_the_same_need_no_test():
    same = paired_difference(pd.Series({0: 2.0, 1: 3.0}), pd.Series({0: 1.0, 1: 2.0}))
    assert (same.low, same.high) == (1.0, 1.0)
    assert np.isnan(same.p)
    assert same.sure


def test_discoveries_are_those_of_the_published_example():
    """Benjamini & Hochberg (1995), section 4: of 15 comparisons the four of least p."""
    published = [
        *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
        *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
    ]
    found = [Difference(1.0, 0.5, 1.5, p, 3) for p in [float("nan"), *published]]
    assert discoveries(found) == [False] + [True] * 4 + [False] * 11
    assert discoveries(found[:1]) == [False]
