"""Products of float32 matrices, of which there may be one per client, or per frequency.

Torch multiplies them, except where MKL, which it uses, leaves half of a processor idle: of vectors of 512
bits it uses 256 unless the processor is Intel's. There scipy's OpenBLAS takes half the time, on the thread
that calls it. Autograd does not see these products.
"""

from functools import lru_cache

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn import functional

from wzfl.environment import processor
from wzfl.kernels import IS_COMPILED
from wzfl.kernels.products import FEW, Place, baddbmm

# What OpenBLAS calls its kernels for vectors of 512 bits: https://github.com/OpenMathLib/OpenBLAS
_OF_LONG_VECTORS = ("SkylakeX", "Cooperlake", "SapphireRapids")


def matmul(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """`left @ right` of `[count, m, k]` and `[count, k, n]`, or of `[m, k]` and `[k, n]`.

    The result is written to `out` if it is given.

    Raises:
        ValueError: the shapes do not fit; where torch multiplies, it is a RuntimeError.
    """
    if not goes_to_openblas(left):
        return torch.matmul(left, right, out=out)
    if out is not None:
        return _by_openblas(out, left, right, 0, 1)
    rows, columns = left.shape[-2], right.shape[-1]
    if rows <= FEW < columns and right.stride(-1) != 1:  # faster as columns, on the right
        out = left.new_empty(*left.shape[:-2], columns, rows)
        return _by_openblas(out, right.mT, left.mT, 0, 1).mT.contiguous()
    return _by_openblas(left.new_empty(*left.shape[:-1], columns), left, right, 0, 1)


def baddbmm_(
    out: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """`out` `[count, m, n]` becomes `beta` times itself plus `alpha` times `left @ right`, in place.

    Raises:
        ValueError: as of `matmul`.
    """
    if not goes_to_openblas(left):
        return out.baddbmm_(left, right, beta=beta, alpha=alpha)
    return _by_openblas(out, left, right, beta, alpha)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` of `[n, in]` and `[out, in]`."""
    if not goes_to_openblas(x):
        return functional.linear(x, weight, bias)
    out = matmul(x, weight.T)
    return out if bias is None else out.add_(bias)


def library() -> str:
    """Name of the library that multiplies float32 matrices on this CPU."""
    return "scipy's OpenBLAS" if _openblas_is_faster() else "torch"


def goes_to_openblas(values: Tensor) -> bool:
    """Whether OpenBLAS, not torch, multiplies matrices of this type and on this device."""
    return values.is_cpu and values.dtype == torch.float32 and _openblas_is_faster()


@lru_cache
def _openblas_is_faster() -> bool:
    """Whether scipy's OpenBLAS beats torch's MKL here; if so, it takes one thread from now on."""
    loaded = ThreadpoolController().select(internal_api="openblas").lib_controllers
    scipys = [each for each in loaded if "numpy.libs" not in each.filepath]
    if "Intel" in processor() or not scipys or not IS_COMPILED:
        return False
    if any(each.architecture not in _OF_LONG_VECTORS for each in scipys):
        return False
    for each in scipys:
        each.set_num_threads(1)
    return True


def _by_openblas(out: Tensor, left: Tensor, right: Tensor, beta: float, alpha: float) -> Tensor:
    """`baddbmm_` of an `out` whose rows are each in one piece, or of one matrix `[m, n]`.

    Raises:
        ValueError: the shapes do not fit, of which BLAS knows nothing.
    """
    (*batch, rows, inner), columns = left.shape, right.shape[-1]
    if right.shape != (*batch, inner, columns) or out.shape != (*batch, rows, columns):
        shapes = ", ".join(str(tuple(each.shape)) for each in (left, right, out))
        raise ValueError(f"a product is of [m, k] and [k, n] to [m, n]; got {shapes}")
    operands = [each if _order(each) else each.contiguous() for each in (left, right)]
    places = [_place(each) for each in (*operands, out)]
    assert not places[2][3]
    count = batch[0] if batch else 1
    baddbmm(count, (rows, inner, columns), *places, float(beta), float(alpha))
    return out


def _place(matrices: Tensor) -> Place:
    """Where the matrices are in memory, as `kernels.products` takes it."""
    order = _order(matrices)
    assert order is not None
    step = matrices.stride(0) if matrices.dim() == 3 else 0
    return matrices.data_ptr(), step * matrices.element_size(), *order


def _order(matrices: Tensor) -> tuple[int, int] | None:
    """Floats to the next row and 0, or to the next column and 1; None if no row or column is in one piece."""
    (rows, columns), (down, right) = matrices.shape[-2:], matrices.stride()[-2:]
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return max(down, columns), 0
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return max(right, rows), 1
    return None
