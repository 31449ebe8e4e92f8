"""Products are torch's, whichever library takes them and however matrices lie in memory."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wzfl import products
from wzfl.products import baddbmm_, library, linear, matmul

openblas_is_faster = products._openblas_is_faster.__wrapped__  # without its cache


@pytest.fixture(scope="module", autouse=True)
def _openblas():
    """Whatever the processor: a test below says of which it is the faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_openblas_is_faster", lambda: True)
        yield


def as_is(values):
    return values


def as_columns(values):
    return values.mT.contiguous().mT


def as_part_of_larger(values):
    return torch.nn.functional.pad(values, (2, 1, 1, 2))[..., 1:-2, 2:-1]


def as_part_of_larger_columns(values):
    return as_part_of_larger(values.mT).mT


def as_every_other(values):
    """Neither rows nor columns are in one piece."""
    return values.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)[..., ::2, ::2]


def as_one_for_all(values):
    return values[:1].expand(values.shape)


LAYOUTS = (as_is, as_columns, as_part_of_larger, as_part_of_larger_columns, as_every_other)
sizes = st.integers(1, 40)


@settings(max_examples=300, deadline=None)  # the first call compiles
@given(
    st.tuples(sizes, sizes, sizes),
    st.integers(0, 3),
    st.sampled_from(LAYOUTS),
    st.sampled_from((*LAYOUTS, as_one_for_all)),
    st.sampled_from([as_is, as_part_of_larger]),
)
def test_layouts_do_not_matter(shape, count, lay_left, lay_right, lay_out):
    rows, inner, columns = shape
    batch = (count,) if count else ()
    if not count and lay_right is as_one_for_all:
        lay_right = as_is
    left = lay_left(torch.randn(*batch, rows, inner))
    right = lay_right(torch.randn(*batch, inner, columns))
    out = lay_out(torch.randn(*batch, rows, columns))
    exact, before = left.double() @ right.double(), out.double()
    near = {"rtol": 1e-5, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(matmul(left, right), exact, **near)
    if count:
        baddbmm_(out, left, right, beta=0.5, alpha=-0.25)
        torch.testing.assert_close(out, 0.5 * before - 0.25 * exact, **near)
    out.fill_(torch.nan)  # is nobody's business
    matmul(left, right, out=out)
    torch.testing.assert_close(out, exact, **near)
    torch.testing.assert_close(
        linear(left.reshape(-1, inner), right[0].mT if count else right.mT, torch.ones(columns)),
        1 + left.double().reshape(-1, inner) @ (right[0] if count else right).double(),
        **near,
    )


@pytest.mark.parametrize("lay_right", LAYOUTS)
@pytest.mark.parametrize("lay_left", LAYOUTS)
@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(7, 1500, 531), (531, 1500, 7), (32, 70, 1003), (2, 9, 60_001)]
)
def test_large_matrices_are_multiplied_piece_by_piece(rows, inner, columns, lay_left, lay_right):
    left, right = lay_left(torch.randn(2, rows, inner)), lay_right(torch.randn(2, inner, columns))
    out = torch.randn(2, rows, columns)
    expected = 0.5 * out.double() - 0.25 * (left.double() @ right.double())
    baddbmm_(out, left, right, beta=0.5, alpha=-0.25)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-4, check_dtype=False)
    torch.testing.assert_close(
        matmul(left, right),
        left.double() @ right.double(),
        rtol=1e-5,
        atol=1e-4,
        check_dtype=False,
    )


@pytest.mark.parametrize(
    ("left", "right", "out"),
    [
        ((2, 3, 4), (2, 5, 6), (2, 3, 6)),
        ((2, 3, 4), (1, 4, 6), (2, 3, 6)),
        ((2, 3, 4), (4, 6), (2, 3, 6)),
        ((2, 3, 4), (2, 4, 6), (2, 3, 5)),
        ((2, 3, 4), (2, 4, 6), (1, 3, 6)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(left, right, out):
    with pytest.raises(ValueError, match="a product is of"):
        baddbmm_(torch.zeros(out), torch.zeros(left), torch.zeros(right))


def test_who_multiplies_is_said(monkeypatch):
    assert library() == "scipy's OpenBLAS"
    monkeypatch.setattr(products, "_openblas_is_faster", lambda: False)
    assert library() == "torch"


def test_what_is_not_float32_is_left_to_torch():
    left, right = torch.randn(3, 4, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    assert torch.equal(matmul(left, right), left @ right)


@dataclass
class Library:
    architecture: str
    filepath: str = "/lib/scipy.libs/libscipy_openblas.so"
    threads: list[int] = field(default_factory=list)

    def set_num_threads(self, number):
        self.threads.append(number)


@pytest.mark.parametrize(
    ("processor", "architecture", "faster"),
    [
        ("AMD EPYC", "SkylakeX", True),
        ("AMD EPYC", "Cooperlake", True),
        ("AMD EPYC", "Haswell", False),
        ("AMD EPYC", None, False),
        ("Intel(R) Xeon(R)", "SkylakeX", False),
    ],
)
def test_openblas_is_asked_where_mkl_leaves_vectors_half_empty(
    monkeypatch, processor, architecture, faster
):
    scipys = [Library(architecture)] if architecture else []
    numpys = Library("Haswell", "/lib/numpy.libs/libscipy_openblas64_.so")
    found = SimpleNamespace(lib_controllers=[numpys, *scipys])
    controller = SimpleNamespace(select=lambda internal_api: found)
    monkeypatch.setattr(products, "ThreadpoolController", lambda: controller)
    monkeypatch.setattr(products, "processor", lambda: processor)
    assert openblas_is_faster() is faster
    assert [library.threads for library in scipys] == [[1] if faster else []] * len(scipys)
    assert numpys.threads == []
