"""Independent work on all cores of a CPU: several threads with one core each.

One operation at a time on all cores leaves them idle between operations and wants large operands; whole
tasks side by side do not. Compiled kernels and torch's operations release Python's lock.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch

_WORTH_A_THREAD = 2**23  # bytes to read

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of each item, in their order, on as many threads as torch may use."""
    tasks = list(enumerate(items))
    workers = min(torch.get_num_threads(), len(tasks))
    if workers < 2:
        return [function(item) for _, item in tasks]
    results: dict[int, Result] = {}
    waiting = iter(tasks)  # shared: who is free takes the next, without being woken for each

    def work() -> None:
        for place, item in waiting:
            results[place] = function(item)

    # The caller works, too: of threads that are woken while it goes to sleep, two may wait for one core.
    started = [_pool(workers - 1).submit(work) for _ in range(workers - 1)]
    try:
        with _one_core():
            work()
    finally:
        wait(started)
    for done in started:
        done.result()
    return [results[place] for place, _ in tasks]


def in_shares(function: Callable[[Item], Result], items: Sequence[Item], size: int) -> list[Result]:
    """`function` of each item, in their order, where all that it does is to read `size` bytes in all.

    On no more threads than are worth being woken, each of which has its share from the start: to ask for
    more takes Python's lock, for which it may wait longer than a share takes.
    """
    workers = min(torch.get_num_threads(), len(items), size // _WORTH_A_THREAD)
    if workers < 2:
        return [function(item) for item in items]

    def share(number: int) -> list[Result]:
        return [function(item) for item in items[number::workers]]

    started = [_pool(workers).submit(share, number) for number in range(workers)]
    shares = [each.result() for each in started]
    return [shares[place % workers][place // workers] for place in range(len(items))]


def runs(count: int, size: int) -> list[slice]:
    """So many items, `size` at a time."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


@contextmanager
def _one_core() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "wzfl", initializer=_take_one_core)


def _take_one_core() -> None:
    """OpenMP's number of threads belongs to the thread that sets it."""
    torch.set_num_threads(1)
    # A thread's first question makes it take the number last set anywhere: asked now, that is 1.
    torch.get_num_threads()
