"""Between the device and the host, by way of page-locked memory, which the device reaches by itself."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from wzfl.memory import as_tensor, copy_all


def to_host(rows: Tensor) -> np.ndarray:
    """`rows` `[rows, ...]`, or a copy of them if they are elsewhere."""
    if rows.is_cpu:
        return rows.numpy()
    host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    return host.copy_(rows).numpy()


def numbers_to_device(numbers: np.ndarray, device: torch.device) -> Tensor:
    """A copy of a few numbers, for which nobody waits until the device has done what it was told before."""
    host = torch.from_numpy(numbers)
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)


def to_device(strings: Sequence[bytes | memoryview], device: torch.device) -> Tensor:
    """`[rows, bytes]` uint8: strings of one length, a row each; copied beside what the device is doing."""
    size = len(strings[0]) if strings else 0
    host = torch.empty(len(strings), size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    if device.type == "cpu":
        copy_all(list(host), [as_tensor(string) for string in strings])
        return host
    copies = _stream_of_copies(device) if device.type == "cuda" else None
    with torch.cuda.stream(copies):  # memory that no work before this is still to read
        rows = torch.empty_like(host, device=device)
        for row, there, string in zip(rows, host, strings, strict=True):
            there.copy_(as_tensor(string))
            row.copy_(there, non_blocking=True)
    if copies:
        now = torch.cuda.current_stream(device)
        now.wait_stream(copies)
        rows.record_stream(now)
    return rows


@lru_cache
def _stream_of_copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
