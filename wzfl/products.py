"""Products of float32 matrices, of which there may be one per client, or per frequency.

Torch's, except where MKL, which it uses, leaves half of a processor idle: of vectors of 512 bits it uses 256
unless they are Intel's. There scipy's OpenBLAS takes half the time, on the thread that calls it. For
what needs no gradient of its own.
"""

from functools import lru_cache

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn import functional

from wzfl.environment import processor
from wzfl.kernels import IS_COMPILED
from wzfl.kernels.products import FEW, Place, add_products

# What OpenBLAS calls its kernels for vectors of 512 bits: https://github.com/OpenMathLib/OpenBLAS
_OF_LONG_VECTORS = ("SkylakeX", "Cooperlake", "SapphireRapids")


def product(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """`left @ right` of `[count, m, k]` and `[count, k, n]`, or of `[m, k]` and `[k, n]`; `out`, if given."""
    if not goes_to_openblas(left):
        return torch.matmul(left, right, out=out)
    if out is not None:
        return _added(out, left, right, 0, 1)
    rows, columns = left.shape[-2], right.shape[-1]
    if rows <= FEW < columns and right.stride(-1) != 1:  # faster as columns, on the right
        out = left.new_empty(*left.shape[:-2], columns, rows)
        return _added(out, right.mT, left.mT, 0, 1).mT.contiguous()
    return _added(left.new_empty(*left.shape[:-1], columns), left, right, 0, 1)


def add_product(into: Tensor, left: Tensor, right: Tensor, keep: float, scale: float) -> Tensor:
    """`into` `[count, m, n]` becomes `keep` times itself plus `scale` times `left @ right`."""
    if not goes_to_openblas(left):
        return into.baddbmm_(left, right, beta=keep, alpha=scale)
    return _added(into, left, right, keep, scale)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` of `[n, in]` and `[out, in]`."""
    if not goes_to_openblas(x):
        return functional.linear(x, weight, bias)
    out = product(x, weight.T)
    return out if bias is None else out.add_(bias)


def library() -> str:
    """That multiplies float32 matrices on this CPU."""
    return "scipy's OpenBLAS" if _openblas_is_faster() else "torch"


def goes_to_openblas(values: Tensor) -> bool:
    """Whether products of such matrices do."""
    return values.is_cpu and values.dtype == torch.float32 and _openblas_is_faster()


@lru_cache
def _openblas_is_faster() -> bool:
    """If so, scipy's takes one thread from here on."""
    loaded = ThreadpoolController().select(internal_api="openblas").lib_controllers
    scipys = [each for each in loaded if "numpy.libs" not in each.filepath]
    if "Intel" in processor() or not scipys or not IS_COMPILED:
        return False
    if any(each.architecture not in _OF_LONG_VECTORS for each in scipys):
        return False
    for each in scipys:
        each.set_num_threads(1)
    return True


def _added(into: Tensor, left: Tensor, right: Tensor, keep: float, scale: float) -> Tensor:
    """`into`, whose rows are each in one piece, after `add_product`.

    Raises:
        ValueError: the shapes do not fit, of which BLAS knows nothing.
    """
    (*batch, rows, inner), columns = left.shape, right.shape[-1]
    if right.shape != (*batch, inner, columns) or into.shape != (*batch, rows, columns):
        shapes = ", ".join(str(tuple(each.shape)) for each in (left, right, into))
        raise ValueError(f"a product is of [m, k] and [k, n] to [m, n]; got {shapes}")
    operands = [each if _order(each) else each.contiguous() for each in (left, right)]
    places = [_place(each) for each in (*operands, into)]
    assert not places[2][3]
    count = batch[0] if batch else 1
    add_products(count, (rows, inner, columns), *places, float(keep), float(scale))
    return into


def _place(matrices: Tensor) -> Place:
    order = _order(matrices)
    assert order is not None
    step = matrices.stride(0) if matrices.dim() == 3 else 0
    return matrices.data_ptr(), step * matrices.element_size(), *order


def _order(matrices: Tensor) -> tuple[int, int] | None:
    """Floats to the next row and 0, or to the next column and 1; None if neither is in one piece."""
    (rows, columns), (down, right) = matrices.shape[-2:], matrices.stride()[-2:]
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return max(down, columns), 0
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return max(right, rows), 1
    return None
