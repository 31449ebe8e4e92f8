import re

import numpy as np
import pytest
import torch

from wzfl import InputError, PayloadError, Public, build_compressor


def test_a_decoder_elsewhere_draws_the_same():
    draws = Public(seed=3, round=7, clients=(2,))
    # Golden values: to change them is to change the wire format of every compressor.
    assert draws.uniform("dither", 3).mul(2**24).int().tolist() == [GOLDEN_UNIFORM]
    assert draws.signs("rotation/0", 12).int().tolist() == [GOLDEN_SIGNS]
    assert draws.subset("sent", 10, 4).tolist() == [GOLDEN_SUBSET]


GOLDEN_UNIFORM = [583847, 4156533, 7384811]
GOLDEN_SIGNS = [1, -1, -1, -1, -1, 1, -1, -1, 1, -1, -1, -1]
GOLDEN_SUBSET = [2, 9, 6, 3]


@pytest.mark.parametrize("draw", ["uniform", "signs"])
def test_draws_differ_by_seed_round_client_and_purpose(draw):
    base = Public(0, 0, (0,))
    others = [Public(1, 0, (0,)), Public(0, 1, (0,)), Public(0, 0, (1,))]
    expected = getattr(base, draw)("a", 200)
    assert not torch.equal(expected, getattr(base, draw)("b", 200))
    for other in others:
        assert not torch.equal(expected, getattr(other, draw)("a", 200))


def test_rows_draw_what_they_draw_together(public):
    together = public.uniform("a", 37)
    for row in range(3):
        assert torch.equal(public.rows(slice(row, row + 1)).uniform("a", 37), together[[row]])


@pytest.mark.parametrize(
    "rows",
    [
        [0, 2],
        (2, 0),
        [-1],
        np.array([1]),
        torch.tensor([2, 1]),
        slice(None, None, -1),
        slice(0, None, -1),
        [1, 1],
    ],
)
def test_rows_are_a_slice_or_a_list(rows):
    scale, sketches = torch.tensor([0.1, 0.2, 0.3]), torch.randn(3, 4)
    public = Public(0, 1, (7, 8, 9), scale, (b"a", b"b", b"c"), sketches)
    numbers = np.arange(3)[rows if isinstance(rows, slice) else list(rows)].tolist()
    some = public.rows(rows)
    assert some.clients == tuple(public.clients[row] for row in numbers)
    assert some.plans == tuple(public.plans[row] for row in numbers)
    assert torch.equal(some.scale, scale[numbers])
    assert torch.equal(some.sketches, sketches[numbers])
    assert public.rows([0, 1, 2]).fingerprints() == public.fingerprints()


@pytest.mark.parametrize("rows", [1, None, [3], [0.5], [True, False, True], "ab", slice("a")])
def test_what_is_no_row_is_refused(public, rows):
    message = f"rows must be a slice or a list of numbers below 3, .*; got {re.escape(repr(rows))}"
    with pytest.raises(InputError, match=message):
        public.rows(rows)


@pytest.mark.parametrize("clients", [5, None])
def test_a_single_client_is_listed(clients):
    with pytest.raises(InputError, match=rf"got seed 0, round 1, clients {clients}: .* and list"):
        Public(0, 1, clients)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (torch.tensor([0.1j]), "must be real; got torch.complex64"),
        (torch.ones(1, device="meta"), "must have values; got .* on meta"),
        (torch.ones(1).to_sparse(), "must be dense; got layout"),
    ],
)
def test_a_scale_is_real_numbers(scale, message):
    with pytest.raises(InputError, match=f"^Public.scale {message}"):
        Public(0, 1, (1,), scale)


@pytest.mark.parametrize("sketches", [[1], torch.ones(1), torch.ones(1, 3, dtype=torch.int)])
def test_sketches_are_a_row_of_floats_per_client(sketches):
    with pytest.raises(InputError, match=r"^Public.sketches must be .* \[clients, size\]; got"):
        Public(0, 1, (1,), sketches=sketches)
    with pytest.raises(InputError, match=r"^Public.sketches must have values"):
        Public(0, 1, (1,), sketches=torch.ones(1, 3, device="meta"))


@pytest.mark.parametrize("scale", [0.1, [0.1]])
def test_a_scale_that_is_no_tensor_is_refused(scale):
    with pytest.raises(InputError, match=r"^Public.scale must be a torch tensor, .*; got .*0.1"):
        Public(0, 0, (1,), scale)


def test_what_was_known_stays_so_when_the_caller_s_tensor_changes():
    scale, update = torch.full((10,), 0.1), torch.randn(10, 1000)
    compressor, public = build_compressor("wyner_ziv"), Public(0, 1, range(10), scale)
    payloads = compressor.encode(update, public)
    expected = compressor.decode(payloads, update, public)
    scale.mul_(2)
    assert torch.equal(public.scale, torch.full((10,), 0.1))
    assert torch.equal(compressor.decode(payloads, update, public), expected)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("inference", [False, True])
def test_a_scale_that_is_changed_in_place_is_another(device, inference):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    with torch.inference_mode(inference):
        update, scale = torch.randn(1, 1000, device=device), torch.full((1,), 0.1, device=device)
        compressor, public = build_compressor("wyner_ziv"), Public(0, 1, (0,), scale)
        payloads = compressor.encode(update, public)
        public.scale.mul_(10)
        assert public.fingerprints() == Public(0, 1, (0,), 10 * scale).fingerprints()
        with pytest.raises(PayloadError, match="made for another client, round, scale or"):
            compressor.decode(payloads, update, public)
        public.scale.zero_()
        assert public.has_scale == [False]


def test_a_scale_may_carry_a_graph():
    scale = torch.full((2,), 0.1, requires_grad=True)
    assert not Public(0, 1, range(2), scale).scale.requires_grad


@pytest.mark.parametrize("wrong", [2**63, -(2**63) - 1, 1.5, None, "1", np.bool_(True)])
@pytest.mark.parametrize("field", ["seed", "round", "clients"])
def test_what_is_no_integer_of_64_bits_is_refused(field, wrong):
    known = {"seed": 0, "round": 0, "clients": (0, 1)}
    given = (0, wrong) if field == "clients" else wrong
    message = f"^Public's seed, round and clients are .*; got .*{field} .*{re.escape(repr(wrong))}"
    with pytest.raises(InputError, match=message):
        Public(**{**known, field: given})


@pytest.mark.parametrize("kind", [np.int32, np.uint64, torch.tensor, bool])
def test_integers_of_any_kind_are_the_same(kind):
    public, same = Public(1, 1, (1, 0)), Public(kind(1), kind(1), (kind(1), kind(0)))
    assert (same.seed, same.round, same.clients) == (1, 1, (1, 0))
    assert type(same.seed) is type(same.round) is type(same.clients[0]) is int
    assert same.fingerprints() == public.fingerprints()
    assert torch.equal(same.uniform("a", 9), public.uniform("a", 9))
    assert Public(1, 1, torch.tensor([1, 0])).clients == Public(1, 1, np.array([1, 0])).clients


def test_the_most_and_the_least_of_64_bits_are_taken():
    public = Public(2**63 - 1, -(2**63), (2**63 - 1,))
    assert build_compressor("none").encode(torch.ones(1, 3), public)


def test_plans_are_bytes():
    with pytest.raises(InputError, match=r"^Public.plans must be bytes, .* got \('a', 'b'\)"):
        Public(0, 0, (0, 1), plans=("a", "b"))


def test_uniform_is_uniform_and_signs_are_fair(public):
    draws = public.uniform("a", 100_000)
    assert draws.min() >= 0
    assert draws.max() < 1
    deciles = torch.histc(draws, 10, 0, 1) / draws.numel()
    assert (deciles - 0.1).abs().max() < 0.003  # 5.5 standard errors
    signs = public.signs("a", 100_001)
    assert set(signs.unique().tolist()) == {-1, 1}
    assert abs(float(signs.mean())) < 0.01


@pytest.mark.parametrize(("dim", "count"), [(1, 1), (2, 1), (37, 37), (1000, 50), (4096, 4095)])
def test_subset_is_distinct_coordinates(public, dim, count):
    for row in public.subset("a", dim, count):
        assert len(row.unique()) == count
        assert row.min() >= 0
        assert row.max() < dim


def test_each_coordinate_is_as_likely_in_a_subset():
    dim, count, clients = 12, 5, 6000
    rows = Public(0, 0, tuple(range(clients))).subset("a", dim, count)
    frequency = torch.bincount(rows.flatten(), minlength=dim) / clients
    standard_error = (5 / 12 * 7 / 12 / clients) ** 0.5
    assert (frequency - count / dim).abs().max() < 4.5 * standard_error


@pytest.mark.parametrize("scale", [[1.0], [1.0, -1.0], [1.0, float("nan")]])
def test_scales_must_fit_the_clients(scale):
    with pytest.raises(InputError, match="one per client"):
        Public(0, 0, (0, 1), torch.tensor(scale))


def test_what_is_common_is_the_same_for_all_and_nobody_s_own(public):
    common = public.common(3)
    rows = common.uniform("a", 50)
    assert (rows == rows[0]).all()
    assert not (public.uniform("a", 50) == rows).all(dim=1).any()
    elsewhere = Public(public.seed, public.round, (99,)).common(1)
    assert torch.equal(elsewhere.uniform("a", 50), rows[:1])
    later = Public(public.seed, public.round + 1, (99,)).common(1)
    assert not torch.equal(later.uniform("a", 50), rows[:1])


def test_there_is_no_round_of_nobody():
    with pytest.raises(InputError, match="of at least one client; got none"):
        Public(0, 1, ())
