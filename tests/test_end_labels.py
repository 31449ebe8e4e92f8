"""Labels at the ends of lines do not overlap, and stay where their lines are as far as they can."""

from itertools import pairwise

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wzfl.end_labels import End, label_ends, spread


@given(st.lists(st.floats(-1, 2), max_size=12))
def test_labels_keep_their_order_and_distance(heights):
    places = spread(heights, 0.07)
    ordered = sorted(zip(heights, places, strict=True))
    for (_, lower), (_, upper) in pairwise(ordered):
        assert upper - lower > 0.07 - 1e-9
    assert all(-1e-9 < place < 1 + 1e-9 for place in places)


def test_labels_with_room_stay():
    assert spread([0.9, 0.1, 0.5], 0.1) == [0.9, 0.1, 0.5]
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.5, 0.6])


def test_more_labels_than_fit_go_on_above():
    assert max(spread([0.5] * 20, 0.1)) == pytest.approx(1.9)


def test_a_label_is_at_the_height_of_its_line():
    figure, axes = plt.subplots()
    axes.set_yscale("log")
    axes.set_ylim(1, 100)
    label_ends(axes, [End("a", "red", 10.0), End("b", "blue", 1e5)])
    assert {text.get_text(): text.get_position()[1] for text in axes.texts} == pytest.approx(
        {"a": 0.5, "b": 1.0}
    )
    plt.close(figure)
