"""Between the device and the host, by way of page-locked memory, which the device reaches by itself."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from wzfl.byte_strings import as_tensor
from wzfl.threads import runs

_AT_ONCE = 2**21  # bytes: a copy takes as long to start as half a megabyte to travel


def to_host(rows: Tensor) -> np.ndarray:
    """`rows` `[rows, ...]`, or a copy of them if they are elsewhere."""
    if rows.is_cpu:
        return rows.numpy()
    host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    return host.copy_(rows).numpy()


class Arrivals:
    """Rows on their way to the host, where each can be waited for."""

    def __init__(self) -> None:
        self._arrived: list[list[torch.cuda.Event]] = []

    def start(self, rows: Tensor) -> np.ndarray:
        """As `to_host`, but what a GPU has is there only after `wait`."""
        if not rows.is_cuda:
            return to_host(rows)
        host, arrived = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True), []
        for some in _runs_of_rows(rows):
            host[some].copy_(rows[some], non_blocking=True)
            event = torch.cuda.current_stream(rows.device).record_event()
            arrived += [event] * (some.stop - some.start)
        self._arrived.append(arrived)
        return host.numpy()

    def wait(self, row: int) -> None:
        """Until this row is there, of all that was started."""
        for arrived in self._arrived:
            arrived[row].synchronize()


def ask(numbers: Tensor) -> Callable[[], np.ndarray]:
    """Starts copying a few numbers to the host; calling the result waits for that copy only."""
    if not numbers.is_cuda:
        return lambda: to_host(numbers)
    host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    host.copy_(numbers, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(numbers.device))

    def copied() -> np.ndarray:
        arrived.synchronize()
        return host.numpy()

    return copied


def numbers_to_device(numbers: np.ndarray, device: torch.device) -> Tensor:
    """A copy, for which nobody waits until the device has done what it was told before."""
    host = torch.from_numpy(numbers)
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True)


def to_device(strings: Sequence[bytes | memoryview], device: torch.device) -> Tensor:
    """`[rows, bytes]` uint8: strings of one length, a row each; copied beside what the device is doing."""
    size, on_gpu = len(strings[0]) if strings else 0, device.type == "cuda"
    host = torch.empty(len(strings), size, dtype=torch.uint8, pin_memory=on_gpu)
    if not on_gpu:
        return _filled(host, strings).to(device)
    copies = _stream_of_copies(device)
    with torch.cuda.stream(copies):  # memory that no work before this is still to read
        rows = torch.empty_like(host, device=device)
        for some in _runs_of_rows(rows):
            rows[some].copy_(_filled(host[some], strings[some]), non_blocking=True)
    now = torch.cuda.current_stream(device)
    now.wait_stream(copies)
    rows.record_stream(now)
    return rows


def _runs_of_rows(rows: Tensor) -> list[slice]:
    """That are worth a copy of their own."""
    return runs(len(rows), max(1, _AT_ONCE // max(1, rows[:1].nbytes)))


def _filled(rows: Tensor, strings: Sequence[bytes | memoryview]) -> Tensor:
    """`rows` `[rows, bytes]` uint8 of the host; torch copies each on all its threads."""
    for row, string in zip(rows, strings, strict=True):
        row.copy_(as_tensor(string))
    return rows


@lru_cache
def _stream_of_copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
