"""Tensors from outside, made to be as everything else reads them."""

import torch
from torch import Tensor

from wzfl.errors import InputError


def plain(name: str, tensor: Tensor) -> Tensor:
    """The tensor without a graph, its values in memory and not still to be negated; else an `InputError`.

    `name` is that of the tensor in messages.
    """
    if tensor.layout != torch.strided:
        raise InputError(
            f"{name} must be dense; got layout {tensor.layout}: .to_dense() makes it so"
        )
    if tensor.is_meta:
        raise InputError(f"{name} must have values; got a tensor on meta, which has a shape alone")
    return tensor.detach().resolve_conj().resolve_neg()
