"""Values as bytes, such as those of a sparsifier's kept coordinates: floats, or a few bits each."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wzfl.bitpack import pack, packed_size, unpack
from wzfl.compressors.envelope import split
from wzfl.compressors.float32 import check_finite, float32_bytes, float32_rows
from wzfl.errors import InputError
from wzfl.kernels.quantize import values_row

_SCALE_BYTES = 4


def check_value_bits(name: str, bits: int) -> None:
    """Raises `InputError` unless values can be sent with that many bits."""
    if bits not in (*range(2, 9), 16, 32):
        raise InputError(f"{name} takes value_bits 2 to 8, 16 or 32; got {bits}")


def scale_bits(bits: int) -> int:
    """What a vector's values cost in common: their largest magnitude, unless they are float32."""
    return 0 if bits == 32 else 8 * _SCALE_BYTES


def values_size(count: int, bits: int) -> int:
    """Bytes of `count` values."""
    return scale_bits(bits) // 8 + packed_size(count, bits)


def values_to_bytes(values: Tensor, bits: int, noise: Tensor | float = 0.5) -> list[bytes]:
    """One string per row of `values` `[clients, count]`.

    32 bits are float32; 16 are float16 relative to the row's largest magnitude, so that tiny and huge
    values survive; 2 to 8 are 2**bits - 1 uniform levels on either side of and at zero, rounded up where
    `noise` says so: to the nearest level for 0.5, without bias for uniform noise of the values' shape.
    """
    if bits == 32:
        return float32_bytes(values)
    largest = values.abs().amax(dim=1, keepdim=True)
    relative = values.double() / torch.where(largest > 0, largest, 1)
    if bits == 16:
        rows = [row.tobytes() for row in relative.half().cpu().numpy().astype("<f2", copy=False)]
    else:
        levels = 2 ** (bits - 1) - 1
        symbols = torch.floor(relative * levels + noise) + levels
        rows = pack(symbols.clamp_(0, 2 * levels), bits)
    return [scale + row for scale, row in zip(float32_bytes(largest), rows, strict=True)]


def values_from_bytes(
    bodies: Sequence[memoryview],
    bits: int,
    count: int,
    device: torch.device,
    clients: Sequence[int],
) -> Tensor:
    """`[clients, count]` float32: what `values_to_bytes` was given, as far as it was sent.

    Raises:
        PayloadError: a value is not finite.
    """
    if bits == 32:
        return float32_rows(bodies, device, clients)
    scale_strings, strings = split(bodies, [_SCALE_BYTES, packed_size(count, bits)])
    largest = float32_rows(scale_strings, device, clients)
    if bits == 16:
        halves = np.stack([np.frombuffer(string, dtype="<f2") for string in strings])
        # numpy takes longer to widen them
        values = torch.from_numpy(halves.astype(np.float16, copy=False)).float()
        check_finite(values, "float16", clients)
        return values.to(device) * largest
    symbols = unpack(strings, bits, count, device)
    return restored(symbols, largest, count, 2 ** (bits - 1) - 1)


def restored(symbols: Tensor, norms: Tensor, bucket: int, levels: int) -> Tensor:
    """`[clients, count]` float32: (symbols - levels) / levels of the norm that each `bucket` shares."""
    if not symbols.is_cpu:
        return restored_with_torch(symbols, norms, bucket, levels)
    values = torch.empty(symbols.shape, dtype=torch.float32)
    rows = zip(symbols.numpy(), norms.numpy(), values.numpy(), strict=True)
    for row, largest, out in rows:
        values_row(row, bucket, levels, largest, out)
    return values


def restored_with_torch(symbols: Tensor, norms: Tensor, bucket: int, levels: int) -> Tensor:
    """What `restored` gives, on any device."""
    # In the device's memory: a GPU divides by a number less exactly.
    steps = torch.full((), float(levels), dtype=torch.float32, device=symbols.device)
    values = symbols.float().sub_(steps).div_(steps)
    whole = symbols.shape[1] // bucket
    values[:, : whole * bucket].unflatten(1, (whole, bucket)).mul_(norms[:, :whole, None])
    values[:, whole * bucket :] *= norms[:, whole:]
    return values
