"""Independent work on all cores of a CPU: several threads with one core each.

One operation at a time on all cores leaves them idle between operations and wants large operands; whole
tasks side by side do not. Compiled kernels and torch's operations release Python's lock.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Calls `function` with each item, on as many threads as torch may use; results are in their order.

    Raises:
        Exception: what a call raised, once all threads are done.
    """
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


def runs(count: int, size: int) -> list[slice]:
    """Divides the places 0 to `count` - 1 into runs of `size`; the last may be shorter."""
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
    """Keeps torch to one core in this thread; OpenMP's number of threads is that of who sets it."""
    torch.set_num_threads(1)
    # A thread's first question makes it take the number last set anywhere: asked now, that is 1.
    torch.get_num_threads()


def _start_anew() -> None:
    """Prepares a forked process, which has none of its parent's threads, neither the pool's nor OpenMP's."""
    _pool.cache_clear()
    torch.set_num_threads(1)


os.register_at_fork(after_in_child=_start_anew)
