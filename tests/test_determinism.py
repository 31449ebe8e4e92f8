"""Results depend on config, code, machine and thread count alone."""

import csv
import gzip
import os
from functools import partial
from pathlib import Path

import pytest
import torch
import train
from test_commands import QUICK, finished
from test_simulation import CLIENTS, COMPRESSORS, federation, without_seconds

import wzfl
from wzfl.client import FedAvg, FedSGD, FullGradient, Shard
from wzfl.compressors import SideInformed
from wzfl.environment import compute_deterministically
from wzfl.federation import State
from wzfl.learned import Learned
from wzfl.models import cnn, mlp, resnet
from wzfl.server import Server
from wzfl.side_information import Last, Zero
from wzfl.simulation import simulate

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _flags(monkeypatch):
    """Resets torch's flags when a test ends."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(before)


def side_for(name):
    if name == "learned_slepian_wolf":
        return Learned()
    return Last() if isinstance(wzfl.build_compressor(name), SideInformed) else Zero()


def filled_and_not(settings):
    """The records of two runs, in one of which torch.empty gives NaN and the largest integers."""
    torch.use_deterministic_algorithms(True)
    for fill in (False, True):
        torch.utils.deterministic.fill_uninitialized_memory = fill
        assert bool(torch.empty(1000).isnan().all()) >= fill
        server = Server(settings.model.init(0), partial(torch.optim.SGD, lr=0.1, momentum=0.9))
        state, test = State.initial(settings, server), settings.shards[0]
        yield without_seconds(simulate(settings, state, 3, 2, test.x, test.y))


def test_a_run_computes_deterministically(call, monkeypatch):
    seen = []

    def note(device):
        seen.append(torch.are_deterministic_algorithms_enabled())
        seen.append(torch.is_deterministic_algorithms_warn_only_enabled())
        return described(device)

    described = train.describe_environment
    monkeypatch.setattr(train, "describe_environment", note)
    assert call(train, *QUICK)[0] == 0
    assert seen == [True, False]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_float32_is_not_rounded_to_ten_bits():
    compute_deterministically()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_what_the_user_asked_of_cublas_is_kept(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    compute_deterministically()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize("name", COMPRESSORS)
def test_no_compressor_reads_memory_that_nobody_wrote(name):
    model = mlp((1, 3, 4), classes=4, hidden=[30])
    plain, filled = filled_and_not(federation(name, bitrate=2, side=side_for(name), model=model))
    assert plain == filled


@pytest.mark.parametrize(
    "work",
    [FullGradient(), FedSGD(batch_size=7), FedAvg(epochs=2, batch_size=8, lr=0.1)],
    ids=lambda work: type(work).__name__,
)
@pytest.mark.parametrize(
    "model",
    [
        lambda: mlp(SHAPE, 4, hidden=[9, 5]),
        lambda: cnn(SHAPE, 4, channels=(2, 3), hidden=8),
        lambda: resnet(SHAPE, 4, width=4, blocks=1),
    ],
    ids=["mlp", "cnn", "resnet"],
)
def test_no_model_reads_memory_that_nobody_wrote(model, work):
    images = torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    shards = [Shard(images, torch.arange(20).remainder(4))] * CLIENTS
    plain, filled = filled_and_not(federation(model=model(), work=work, shards=shards))
    assert plain == filled


def without_times(folder):
    rows = csv.DictReader((folder / "rounds.csv").read_text().splitlines())
    rounds = [{key: cell for key, cell in row.items() if key != "seconds"} for row in rows]
    return rounds, gzip.decompress((folder / "clients.csv.gz").read_bytes())


def test_one_process_or_several_give_the_same_rounds(call):
    sweep = ["-m", *QUICK, "compressor=qsgd,wyner_ziv,topk", "side_information=linear"]
    launchers = {
        "basic": ["hydra/launcher=basic"],
        "two": ["hydra/launcher=processes", "hydra.launcher.n_jobs=2"],
        "three": ["hydra/launcher=processes", "hydra.launcher.n_jobs=3"],
    }
    results = []
    for name, launcher in launchers.items():
        assert call(train, *sweep, *launcher, f"results_dir={name}")[0] == 0
        runs = finished(name)
        assert len(runs) == 3
        results.append({run: without_times(Path(name, "runs", run)) for run in runs})
    assert results[0] == results[1] == results[2]
