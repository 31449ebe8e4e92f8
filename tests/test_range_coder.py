"""The compiled range coder writes and reads what the library's does, and refuses what that refuses."""

import constriction
import numpy as np
import pytest

from wzfl.entropy import _table
from wzfl.kernels import range_coder
from wzfl.kernels.gaps import in_symbols, read_gaps


def geometric(longest, chance=0.1):
    chances = np.append(chance * (1 - chance) ** np.arange(longest), (1 - chance) ** longest)
    return constriction.stream.model.Categorical(chances / chances.sum(), perfect=False)


def written(symbols, model):
    """By the library."""
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(np.asarray(symbols, np.int32), model)
    return encoder.get_compressed()


def write(symbols, table):
    """By ours, into words no more than are promised to be enough."""
    words = np.zeros(len(symbols) + range_coder.LAST_WORDS, np.uint32)
    return words[
        : range_coder.write_symbols(np.asarray(symbols, np.int32), table.cumulative, words)
    ]


def read(words, model, symbols, count):
    """The symbols, in two halves; None where these can not be read."""
    table, state = _table(model, symbols), range_coder.start(words)
    halves = [np.empty(size, np.int64) for size in (count // 2, count - count // 2)]
    for half in halves:
        if not range_coder.read_symbols(words, state, *table, half):
            return None
    return np.concatenate(halves)


@pytest.mark.parametrize("longest", [1, 7, 83, 1024])
def test_it_writes_and_reads_what_the_library_does(longest):
    model, generator = geometric(longest), np.random.default_rng(0)
    symbols = np.minimum(generator.geometric(0.1, 5000) - 1, longest)
    words = written(symbols, model)
    assert np.array_equal(write(symbols, _table(model, longest + 1)), words)
    assert np.array_equal(read(words, model, longest + 1, 5000), symbols)


@pytest.mark.parametrize("border", [0, 2**32 - 1])
@pytest.mark.parametrize("chance", [1e-6, 0.01, 0.4])
def test_a_carry_reaches_the_words_that_wait_for_it(chance, border):
    """Also at the end: whether there is one is open as long as what is read stays at a border of words."""
    model, generator = geometric(2, chance), np.random.default_rng(0)
    table, tried = _table(model, 3), 0
    for attempt in range(4000):
        words = generator.integers(2**32, size=6, dtype=np.uint32)
        words[1 : 1 + attempt % 4] = border
        symbols = read(words, model, 3, int(generator.integers(1, 60)))
        if symbols is not None:  # of these words
            assert np.array_equal(write(symbols, table), written(symbols, model))
            tried += 1
    assert tried > 3000


def test_of_any_words_it_makes_what_the_library_makes():
    model, generator = geometric(30), np.random.default_rng(1)
    refused = 0
    for attempt in range(600):
        words = generator.integers(2**32, size=attempt % 6, dtype=np.uint32)
        if attempt % 4 == 0:
            words[:] = 2**32 - 1  # beyond the last range of this precision
        count = int(generator.integers(1, 40))
        symbols = read(words, model, 31, count)
        try:
            expected = constriction.stream.queue.RangeDecoder(words).decode(model, count)
        except AssertionError:
            refused += 1
            assert symbols is None
        else:
            assert symbols is not None
            assert np.array_equal(symbols, expected)
    assert 50 < refused < 550


def test_gaps_that_are_too_long_go_on_after_all_others():
    symbols = in_symbols(np.array([0, 3, 7, 12, 5]), 5)
    assert symbols.tolist() == [0, 3, 5, 5, 5, 2, 5, 0, 2]


@pytest.mark.parametrize("longest", [1, 7])
def test_gaps_are_read_as_they_were_written(longest):
    model, gaps = geometric(longest), np.random.default_rng(0).geometric(0.02, 300) - 1
    words, read = written(in_symbols(gaps, longest), model), np.empty_like(gaps)
    table = _table(model, longest + 1)
    limit = gaps.sum() + 1
    assert read_gaps(words, range_coder.start(words), *table, longest, limit, read)
    assert (read == gaps).all()


def test_a_gap_that_goes_on_and_on_is_read_up_to_a_limit():
    model, longest, gap = geometric(7), 7, np.empty(1, np.int64)
    words, table = written([longest] * 1000, model), _table(model, longest + 1)
    assert read_gaps(words, range_coder.start(words), *table, longest, 700, gap)
    assert gap.tolist() == [700]
