"""Mutated payloads: a decoder reads what was sealed for it, or raises PayloadError."""

import os
import time
import tracemalloc
from contextlib import suppress
from functools import lru_cache
from random import Random

import hostile_payloads
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from test_compressors import NAMES, inner

import wzfl
from wzfl.compressors.envelope import open_rows, seal_rows
from wzfl.public import Public

# 31 compressors x 2 kinds x 100 examples x 25 payloads: 155 000.
EXAMPLES = int(os.environ.get("WZFL_FUZZ_EXAMPLES", "100"))
PER_EXAMPLE = 25
DIM = 45
MOST_BYTES = 2**18  # that Python and numpy may take for a decode of so few coordinates

# Without shrinking: 25 payloads an example take minutes to shrink, and the seed brings a failure back.
FUZZING = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)

mutation = st.tuples(
    st.sampled_from(["flip", "set", "cut", "extend", "insert", "swap"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 255),
)
mutations = st.lists(mutation, min_size=1, max_size=4)


def fuzzed(test):
    """Calls `test` with a bitrate and `PER_EXAMPLE` mutations, the same on every run."""
    many = st.lists(mutations, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE)
    return seed(0)(settings(FUZZING)(given(st.sampled_from([0.5, 2, 3.5]), many)(test)))


def mutated(data, changes):
    data = bytearray(data)
    for kind, where, value in changes:
        place = int(where * len(data))
        if kind == "flip" and data:
            data[place] ^= 1 << (value % 8)
        elif kind == "set" and data:
            data[place] = value
        elif kind == "cut":
            del data[place:]
        elif kind == "extend":
            data += bytes([value]) * (1 + value % 9)
        elif kind == "insert":
            data.insert(place, value)
        elif data:
            data[place], data[-1] = data[-1], data[place]
    return bytes(data)


@lru_cache(maxsize=8)  # reading conf/ takes longer than decoding
def setting(name, bitrate):
    compressor = inner(wzfl.build_compressor(name, bitrate=bitrate))
    public = Public(3, 5, (7,), torch.tensor([0.0 if bitrate < 2 else 0.5]))
    update = torch.randn(1, DIM, generator=torch.Generator().manual_seed(0))
    (payload,) = compressor.encode(update, public)
    return compressor, public, update, payload


@pytest.mark.parametrize("name", NAMES)
@fuzzed
def test_a_damaged_payload_is_refused(name, bitrate, all_changes):
    compressor, public, update, payload = setting(name, bitrate)
    for changes in all_changes:
        damaged = mutated(payload, changes)
        if damaged != payload:
            with pytest.raises(wzfl.PayloadError):
                compressor.decode([damaged], update, public)


@pytest.mark.parametrize("name", NAMES)
@fuzzed
def test_a_forged_payload_is_refused_or_decodes_to_finite_numbers(name, bitrate, all_changes):
    """What a client could send that seals nonsense with the right checksum."""
    compressor, public, update, payload = setting(name, bitrate)
    (body,) = open_rows(compressor, [payload], DIM, public)
    for changes in all_changes:
        forged = seal_rows(compressor, [mutated(bytes(body), changes)], DIM, public)
        try:
            estimate = compressor.decode(forged, update, public)
        except wzfl.PayloadError:
            continue
        assert estimate.shape == update.shape
        assert estimate.isfinite().all()


def peak(name, data):
    """Bytes that Python and numpy held at once to decode an input."""
    tracemalloc.start()
    hostile_payloads.decoded(name, data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("name", hostile_payloads.NAMES)
def test_what_fuzzing_found_is_refused_or_decodes_to_finite_numbers(name):
    """Within memory and time that the dim accounts for: `make fuzz` keeps what reaches different code."""
    honest = hostile_payloads.seeds(name)
    assert all(
        hostile_payloads.decoded(name, data) for data in honest
    )  # compiles, and makes tables
    assert len(hostile_payloads.corpus(name)) >= len(honest)
    for data in hostile_payloads.corpus(name):
        begin = time.thread_time()
        # Again where it was too much: a thread of the test runner may have taken it.
        assert any(peak(name, data) < MOST_BYTES for _ in range(3)), data.hex()
        assert time.thread_time() - begin < 1, data.hex()


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_payload_does_not_make_a_decoder_slow(name):
    """The most that one can do is to have each plane of a block read four times more."""
    dim, public = 5000, Public(3, 5, (7,), torch.tensor([0.5]))
    compressor = inner(wzfl.build_compressor(name, bitrate=3.5))
    update = torch.randn(1, dim, generator=torch.Generator().manual_seed(0))
    (body,) = open_rows(compressor, compressor.encode(update, public), dim, public)

    def seconds(body):
        forged, taken = seal_rows(compressor, [body], dim, public), []
        for _ in range(3):
            begin = time.thread_time()
            with suppress(wzfl.PayloadError):
                compressor.decode(forged, update, public)
            taken.append(time.thread_time() - begin)
        return min(taken)

    head, size = bytes(body[:8]), len(body) - 8
    for tail in (bytes(size), b"\xff" * size, Random(0).randbytes(size)):
        assert seconds(head + tail) < 50 * seconds(bytes(body)) + 0.01


@pytest.mark.parametrize("name", hostile_payloads.NAMES)
@pytest.mark.parametrize("fill", [b"\0", b"U", b"\xff"])
def test_a_payload_far_longer_than_its_dim_is_refused(name, fill):
    for number in range(len(hostile_payloads.settings(name))):
        forged = bytes([1, number]) + fill * 10_000
        assert not hostile_payloads.decoded(name, forged)
