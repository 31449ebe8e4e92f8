import pytest

from wzfl.reporting import markdown


@pytest.mark.parametrize(
    ("bits", "written"),
    [
        (8e3, "1 kB"),
        (7.9e6, "988 kB"),
        (4e7, "5 MB"),
        (3.2e10, "4 GB"),
        (float("nan"), "not reached"),
    ],
)
def test_sizes_are_of_three_digits(bits, written):
    assert markdown.size(bits) == written


def test_what_is_not_known_is_a_dash():
    assert markdown.number(float("nan")) == "—"
    assert markdown.number(0.12345, ".2f") == "0.12"
