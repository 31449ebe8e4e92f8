"""The polar transform, its decoder and its predicted errors, against definitions and conserved sums."""

from itertools import product

import numpy as np
import pytest
from scipy.special import entr
from scipy.stats import norm

from wzfl.compressors.bit_planes import Quantizer, _entropies, _spacing, design
from wzfl.compressors.syndromes import Syndrome
from wzfl.kernels import polar
from wzfl.polar import _duals, _log_capacities, _log_entropies, _places, block_size, error_rates


def kronecker_power(power):
    matrix = np.ones((1, 1), int)
    for _ in range(power):
        matrix = np.kron(matrix, np.array([[1, 0], [1, 1]]))
    return matrix


def transformed(bits):
    out = np.array(bits, np.uint8)
    polar.transform(out)
    return out


@pytest.mark.parametrize("power", [0, 1, 3, 6])
def test_the_transform_is_the_kronecker_power_and_its_own_inverse(power):
    bits = np.random.default_rng(0).integers(0, 2, 2**power)
    assert transformed(bits).tolist() == (bits @ kronecker_power(power) % 2).tolist()
    assert transformed(transformed(bits)).tolist() == bits.tolist()


@pytest.mark.parametrize("power", [0, 3, 14])
def test_lanes_are_transformed_each_as_alone(power):
    """The longest are more than fits a cache."""
    bits = np.random.default_rng(0).integers(0, 2, (2**power, 3)).astype(np.uint8)
    together = bits.copy()
    polar.transform(together.reshape(-1), 3)
    assert [lane.tolist() for lane in together.T] == [transformed(lane).tolist() for lane in bits.T]


def successive_cancellation(ratios, sent):
    """By definition: each transformed bit is the likelier one, all before it as decided."""
    count = len(ratios)
    everything = np.array(list(product((0, 1), repeat=count)))
    logs = -np.logaddexp(0, np.where(everything == 0, -ratios, ratios)).sum(axis=1)
    images = np.array([transformed(bits) for bits in everything])
    alive = np.ones(len(everything), bool)
    for place in range(count):
        if sent[place] is None:
            chance = [np.exp(logs[alive & (images[:, place] == bit)]).sum() for bit in (0, 1)]
            bit = int(chance[1] > chance[0])
        else:
            bit = sent[place]
        alive &= images[:, place] == bit
    return everything[alive][0]


def decode(ratios, sent, reversed_places=None, noted=1):
    """Bits `[lanes, n]`, and the `noted` places whose decisions were closest."""
    lanes, count = ratios.shape
    known = np.array([bit is not None for bit in sent[0]])
    before = np.concatenate([[0], np.cumsum(known)])
    values = np.array([[bit or 0 for bit in lane] for lane in sent], np.uint8).T.copy()
    room = np.concatenate([ratios.T, 0 * ratios.T]).astype(np.float32, order="C")
    bits, nowhere = np.empty((count, lanes), np.uint8), np.full(lanes, -1)
    doubtful, margins = np.full((lanes, noted), -1), np.full((lanes, noted), 1e6, np.float32)
    reversed_places = nowhere if reversed_places is None else reversed_places
    polar.decode(room, before, values, bits, reversed_places, doubtful, margins)
    return bits.T, doubtful


def made_up(generator, lanes, count, share=0.5):
    """Noisy ratios of bits, and of their transforms the same places in each lane."""
    bits = generator.integers(0, 2, (lanes, count))
    ratios = (1 - 2 * bits) * 2 + 2 * generator.standard_normal((lanes, count))
    known = generator.random(count) < share
    sent = [
        [
            int(bit) if is_known else None
            for bit, is_known in zip(transformed(lane), known, strict=True)
        ]
        for lane in bits
    ]
    return ratios, sent


@pytest.mark.parametrize("seed", range(40))
def test_the_decoder_is_successive_cancellation(seed):
    ratios, sent = made_up(np.random.default_rng(seed), 3, 8)
    expected = [successive_cancellation(*lane).tolist() for lane in zip(ratios, sent, strict=True)]
    assert decode(ratios, sent)[0].tolist() == expected


@pytest.mark.parametrize("count", [1, 2, 64, 1024])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_blocks_are_decoded_side_by_side_as_each_alone(count, share):
    ratios, sent = made_up(np.random.default_rng(count), 5, count, share)
    together, doubtful = decode(ratios, sent, noted=4)
    again, _ = decode(ratios, sent, doubtful[:, 1])
    for lane in range(5):
        row = slice(lane, lane + 1)
        alone, closest = decode(ratios[row], sent[row], noted=4)
        assert together[lane].tolist() == alone[0].tolist()
        assert doubtful[lane].tolist() == closest[0].tolist()
        other, _ = decode(ratios[row], sent[row], closest[:, 1])
        assert again[lane].tolist() == other[0].tolist()


def test_the_tail_of_a_ratio_is_within_what_is_said():
    places = np.linspace(0, 40, 4001, dtype=np.float32)
    tails = [np.log(2) / polar._inverse_tail(place) for place in places]
    np.testing.assert_allclose(tails, np.log1p(np.exp(-places)), atol=5e-4)


def test_capacities_and_entropies_add_up_to_one():
    capacity, entropy = np.exp(_log_capacities()), np.exp(_log_entropies())
    np.testing.assert_allclose(capacity + entropy, 1, atol=1e-9)
    inside = (_places() > -25) & (_places() < 4.5)
    twice = np.interp(np.interp(_places()[inside], _places(), _duals()), _places(), _duals())
    np.testing.assert_allclose(twice, _places()[inside], atol=0.1)


@pytest.mark.parametrize("entropy", [0.1, 0.5, 0.8])
def test_what_must_be_sent_comes_close_to_the_entropy_as_blocks_grow(entropy):
    shares = []
    for power in (10, 13, 16):
        rates = np.sort(error_rates(entropy, 2**power))
        certain = int((np.cumsum(rates) <= 1e-3).sum())
        shares.append(1 - certain / 2**power)
    assert entropy < shares[2] < shares[1] < shares[0]
    assert shares[2] - entropy < 0.1


def test_known_bits_cost_nothing():
    rates = error_rates(0.5, 700)
    assert len(rates) == block_size(700) == 1024
    assert rates[700:].max() < 1e-15
    assert rates.sum() > 0.3 * 700 * 0.5


@pytest.mark.parametrize("cell", [2.9, 1.2, 0.3])
def test_entropies_of_planes_add_up_to_that_of_cell_numbers(cell):
    """H(floor(r / cell + u) | u) of r ~ N(0, 1), from its own integral."""
    offsets = (np.arange(400) + 0.5) / 400
    edges = (np.arange(-60, 62) - offsets[:, None]) * cell
    expected = float(entr(np.diff(norm.cdf(edges))).sum(axis=1).mean() / np.log(2))
    quantizer = Quantizer(cell, trellis_coded=False)
    planes = _entropies(quantizer)
    uniform = [_spacing(quantizer, number) for number, each in enumerate(planes) if each is None]
    assert all(spacing < 0.4 for spacing in uniform)
    assert sum(1 if each is None else each for each in planes) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("count", "bits"), [(1, 1), (1, 16), (8, 12), (1000, 2000), (5000, 9999)])
def test_a_design_spends_its_bits_and_no_more(count, bits):
    made = design(count, bits)
    assert 0 < sum(made.sizes) <= bits
    assert sum(made.sizes) > 0.95 * bits or count < 10
    assert made.cell * 2 ** len(made.planes) >= 16


def test_most_misread_planes_are_read_right_with_one_decision_reversed():
    """Bits of entropy 0.5 on average, sent with a third more than that: a few blocks in a hundred fail."""
    generator, count, chance = np.random.default_rng(0), 1024, 0.11
    places = np.sort(np.argsort(-error_rates(0.5, count), kind="stable")[: int(0.66 * count)])
    syndrome, right = Syndrome(count, places), []
    for _ in range(400):
        bits = (generator.random(count) < chance).astype(np.uint8)
        ratios = np.full(count, np.log(1 / chance - 1), np.float32)
        readings = list(syndrome.readings(syndrome.of(bits), ratios, reversals=16))
        right.append([np.array_equal(reading, bits) for reading in readings])
    misread = [row for row in right if not row[0]]
    assert 4 < len(misread) < 60
    assert sum(any(row) for row in misread) > 0.7 * len(misread)


def test_what_is_sent_as_it_is_has_one_reading():
    bits = np.array([0, 1, 1, 0], np.uint8)
    assert [each.tolist() for each in Syndrome(4, None).readings(bits, np.zeros(4), 16)] == [
        [0, 1, 1, 0]
    ]
