"""Work on all cores, in a process and in those that it forks."""

import multiprocessing

import pytest
import torch

import wzfl


@pytest.fixture
def many_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def encoded():
    updates = torch.randn(4, 100_000, generator=torch.Generator().manual_seed(0))
    public = wzfl.Public(seed=0, round=1, clients=range(4))
    return wzfl.build_compressor("topk").encode(updates, public)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_encodes_once_its_parent_has(many_threads):
    expected, fork = encoded(), multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=lambda: theirs.send(encoded()))
    child.start()
    try:
        assert ours.poll(60), "the forked process hangs"
        assert ours.recv() == expected
    finally:
        child.kill()
        child.join()
