"""Labels at the ends of lines do not overlap, and stay where their lines are as far as they can."""

from itertools import pairwise

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wzfl.reporting.end_labels import End, label_ends, spread


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
    label_ends(axes, [End("a", "red", 0.5, 10.0), End("b", "blue", 32.0, 20.0)])
    (_, a), (_, b) = (text.get_position() for text in axes.texts)
    assert (a, b) == pytest.approx((0.5, 0.6505), abs=1e-4)
    assert [text.xy[0] for text in axes.texts] == [0.5, 1]  # where lines lead to
    plt.close(figure)


def test_a_label_of_what_is_off_the_axes_tells_its_value_and_leads_nowhere():
    figure, axes = plt.subplots()
    axes.set_ylim(0.5, 1)
    label_ends(axes, [End("low", "red", 0.5, 0.1134), End("high", "blue", 0.5, 3.0)])
    assert [text.get_text() for text in axes.texts] == ["low (0.11) ↓", "high (3) ↑"]
    assert [text.get_position()[1] for text in axes.texts] == [0, 1]
    assert all(text.arrow_patch is None for text in axes.texts)
    plt.close(figure)
