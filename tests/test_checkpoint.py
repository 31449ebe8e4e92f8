"""A run that goes on from a checkpoint is the run that was never interrupted."""

import errno
import gzip
import os
from collections import OrderedDict
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_simulation import CLIENTS, federation, shards

from wzfl import InputError, checkpoint
from wzfl.checkpoint import Unusable
from wzfl.federation import State
from wzfl.history import History
from wzfl.learned import Learned
from wzfl.linear import Linear
from wzfl.partial_run import PartialRun
from wzfl.results import RunFolder, load_clients, load_rounds
from wzfl.server import Server
from wzfl.side_information import Last, Mean, Memory
from wzfl.simulation import simulate

CPU = torch.device("cpu")
ROUNDS, EVERY = 12, 5
CONFIG, ENVIRONMENT = {"seed": 0}, {"code": "1", "processor": "some"}
momentum = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class Killed(BaseException):
    """Ends a run as a kill would, at any moment."""


def fresh(settings, optimizer=momentum):
    return State.initial(settings, Server(settings.model.init(0), optimizer))


def train(folder, settings, until=None, optimizer=momentum, environment=ENVIRONMENT, config=CONFIG):
    """A run as scripts/train.py carries it out, killed in the round after `until`; where it began."""
    state = fresh(settings, optimizer)
    run = PartialRun(folder, environment, EVERY)
    run.begin(config, state)
    began, test = state.round, shards()[0]
    records = simulate(settings, state, ROUNDS, 4, test.x, test.y)
    for record in run.record(records, state):
        if record["round"] == until:
            return began
    run.finish({"summary": {}})
    return began


def tables(folder):
    rounds = load_rounds(folder.path).drop(columns="seconds")
    return rounds.to_csv(), load_clients(folder.path).to_csv()


@pytest.fixture
def folders(tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    return [RunFolder(tmp_path / name, "abc") for name in ("whole", "killed")]


@pytest.mark.parametrize(
    ("name", "side", "optimizer"),
    [
        ("none", None, momentum),
        ("eden", None, partial(torch.optim.Adam, lr=0.01)),
        ("wyner_ziv", Last(precision="int8", capacity=3), momentum),
        ("wyner_ziv", Mean(waves=2), momentum),
        ("slepian_wolf", Linear(sketch=16), momentum),
        ("learned_slepian_wolf", Learned(), momentum),
        ("topk", None, momentum),
        ("diana", None, momentum),
        ("marina", None, momentum),
    ],
)
@pytest.mark.parametrize("until", [4, 7, 11])
def test_a_killed_run_ends_as_if_it_had_not_been(folders, name, side, optimizer, until):
    whole, killed = folders
    settings = federation(name, side=side, clients_per_round=CLIENTS - 1)
    assert train(whole, settings, optimizer=optimizer) == 0
    assert train(killed, settings, until, optimizer) == 0
    assert not killed.finished
    assert train(killed, settings, optimizer=optimizer) == until // EVERY * EVERY
    assert tables(killed) == tables(whole)
    assert sorted(path.name for path in killed.path.iterdir()) == [
        "clients.csv.gz",
        "config.yaml",
        "metadata.json",
        "rounds.csv",
    ]


def interrupted(whole, killed):
    """A run that was carried out, the same killed after round 11, and its settings."""
    settings = federation("wyner_ziv")
    train(whole, settings)
    train(killed, settings, 11)
    return whole, killed, settings


def damage(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0, 20, -1], ids=["length", "header", "tensor"])
def test_of_a_damaged_checkpoint_the_one_before_is_taken(folders, place):
    whole, killed, settings = interrupted(*folders)
    damage(killed.partial / "round_10.safetensors", place)
    assert train(killed, settings) == 5
    assert tables(killed) == tables(whole)


def test_without_a_usable_checkpoint_a_run_starts_anew(folders):
    whole, killed, settings = interrupted(*folders)
    (killed.partial / "round_10.safetensors").write_bytes(b"")
    (killed.partial / "round_5.safetensors").unlink()
    assert train(killed, settings) == 0
    assert tables(killed) == tables(whole)


@pytest.mark.parametrize("cut", [1, 40, 300])
def test_tables_that_break_off_are_cut_back_to_the_checkpoint(folders, cut):
    """A kill in the middle of a write does this; where much is gone, an earlier checkpoint is taken."""
    whole, killed, settings = interrupted(*folders)
    for name in ("rounds.csv", "clients.csv.gz"):
        path = killed.partial / name
        path.write_bytes(path.read_bytes()[:-cut])
    assert train(killed, settings) in (0, 5, 10)
    assert tables(killed) == tables(whole)


def test_a_table_with_a_torn_number_is_not_believed(folders):
    whole, killed, settings = interrupted(*folders)
    rounds = killed.partial / "rounds.csv"
    lines = rounds.read_text().splitlines()
    assert lines[11].startswith("11,")
    rounds.write_text("\n".join([*lines[:11], "1"]))
    assert train(killed, settings) == 10
    assert tables(killed) == tables(whole)


def test_a_table_with_other_columns_is_not_believed(folders):
    whole, killed, settings = interrupted(*folders)
    rounds = killed.partial / "rounds.csv"
    rounds.write_text(rounds.read_text().replace("nmse", "error", 1))
    assert train(killed, settings) == 0
    assert tables(killed) == tables(whole)


def test_what_other_code_began_is_not_continued_and_it_is_said_why(folders, caplog):
    _, killed = folders
    settings = federation("wyner_ziv")
    train(killed, settings, 11)
    other = dict.fromkeys(ENVIRONMENT, "other")
    assert train(killed, settings, environment=other | {"cores": 2}) == 0
    named = ", ".join(sorted({*ENVIRONMENT, "cores"} - {"git_commit"}))
    assert f"run {killed.id} starts anew: {named} changed" in caplog.text


def test_another_commit_or_sweep_of_the_same_code_goes_on(folders):
    whole, killed = folders
    settings = federation("wyner_ziv")
    train(whole, settings)
    train(killed, settings, 11, environment=ENVIRONMENT | {"git_commit": "a1"})
    environment = ENVIRONMENT | {"git_commit": "a1+changes"}
    assert (
        train(killed, settings, environment=environment, config=CONFIG | {"sweep": "later"}) == 10
    )
    assert tables(killed) == tables(whole)
    assert "sweep: later" in (killed.path / "config.yaml").read_text()


def test_checkpoints_are_there_until_the_run_is_finished(folders, monkeypatch):
    _, killed = folders
    settings = federation("wyner_ziv")

    def replace(source, target, rename=os.replace):
        if Path(target) == killed.path:
            raise OSError(errno.EACCES, "permission denied")
        rename(source, target)

    with monkeypatch.context() as broken:
        broken.setattr("os.replace", replace)
        with pytest.raises(InputError, match="results can not be written"):
            train(killed, settings)
    assert train(killed, settings) > 0
    assert sorted(path.name for path in killed.path.iterdir()) == [
        "clients.csv.gz",
        "config.yaml",
        "metadata.json",
        "rounds.csv",
    ]


def test_two_checkpoints_are_kept(tmp_path):
    folder = RunFolder(tmp_path, "abc")
    settings = federation("none")
    state = fresh(settings)
    run = PartialRun(folder, ENVIRONMENT, 2)
    run.begin(CONFIG, state)
    test = shards()[0]
    for _ in run.record(simulate(settings, state, 7, 7, test.x, test.y), state):
        pass
    names = [path.name for path in folder.partial.glob("*.safetensors*")]
    assert sorted(names) == ["round_4.safetensors", "round_6.safetensors"]


def test_everything_comes_back_as_it_was(tmp_path):
    history = History(300, CPU, "int8", capacity=2)
    history.admit([4, 7, 9])
    history.move(9, torch.randn(300), 1.0)
    state = {
        "tensors": [torch.tensor(2.5), torch.randn(3, 0), torch.ones(4, dtype=torch.bool)],
        "half": torch.randn(7).bfloat16(),
        "array": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "others": (None, True, 3, 0.1, float("inf"), "text", {1, 2}, OrderedDict([(5, 1), (2, 0)])),
        3: history,
    }
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, state)
    back = checkpoint.load(path, CPU)
    assert list(back) == list(state)
    for before, after in zip(state["tensors"], back["tensors"], strict=True):
        assert torch.equal(before, after)
        assert before.dtype == after.dtype
    assert torch.equal(state["half"], back["half"])
    np.testing.assert_array_equal(state["array"], back["array"])
    assert state["others"] == back["others"]
    assert type(back["others"][-1]) is OrderedDict
    assert list(back[3].places) == [7, 9] == list(history.places)
    assert torch.equal(back[3].read([4, 7, 9]), history.read([4, 7, 9]))


def test_nothing_unknown_is_written(tmp_path):
    with pytest.raises(TypeError, match="can not hold a complex"):
        checkpoint.save(tmp_path / "state", {"a": 1j})


def test_a_checkpoint_of_another_version_is_named(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    monkeypatch.setattr(checkpoint, "_VERSION", 99)
    checkpoint.save(path, {"a": 1})
    monkeypatch.undo()
    with pytest.raises(Unusable, match="got version 99; expected 2"):
        checkpoint.load(path, CPU)


def test_a_run_with_checkpoints_of_another_layout_starts_anew(folders):
    """Such as that whose digest left out names, types and shapes."""
    whole, killed, settings = interrupted(*folders)
    for path in killed.partial.glob("round_*.safetensors"):
        metadata = {"version": "1", "tree": "{}", "digest": "0123"}
        save_file({"000000": torch.zeros(3)}, path, metadata)
        with pytest.raises(Unusable, match="damaged, or written by other code"):
            checkpoint.load(path, CPU)
    assert train(killed, settings) == 0
    assert tables(killed) == tables(whole)


def test_what_a_process_was_writing_when_it_was_killed_is_gone_in_the_end(folders):
    _, killed = folders
    settings = federation("wyner_ziv")
    train(killed, settings, 7)
    (killed.partial / "partial.123.round_10.safetensors").write_bytes(b"half")
    assert train(killed, settings) == 5
    assert not list(killed.path.glob("partial.*"))


def test_objects_that_other_code_wrote_are_named(tmp_path, monkeypatch):
    path, memory = tmp_path / "state.safetensors", Learned().init(3, 10, CPU)
    others = [field for field in fields(Memory) if field.name != "margin"]
    monkeypatch.setattr(
        checkpoint, "fields", lambda of: others if isinstance(of, Memory) else fields(of)
    )
    checkpoint.save(path, memory)
    monkeypatch.undo()
    with pytest.raises(
        Unusable, match=r"a Memory of own, .*; expected own, .*, margin, outcomes, spread"
    ):
        checkpoint.load(path, CPU)


class Older(Learned):
    """A class that later code no longer has."""


@pytest.mark.parametrize("written", ["class", "history", "tree"])
def test_what_other_code_wrote_is_no_error_of_ours(tmp_path, monkeypatch, written):
    path = tmp_path / "state.safetensors"
    history, other = History(4, CPU, "float32", 3), None
    if written == "class":
        monkeypatch.setitem(checkpoint._OBJECTS, "Older", Older)
        other = Older()
    elif written == "history":
        contents = history.contents()
        del contents["capacity"]
        monkeypatch.setattr(History, "contents", lambda self: contents)
        other = history
    else:
        monkeypatch.setattr(checkpoint, "_packed", lambda *of: {"set": 7})
    checkpoint.save(path, other)
    monkeypatch.undo()
    with pytest.raises(Unusable, match="written by other code"):
        checkpoint.load(path, CPU)


def test_clients_tables_are_ordinary_gzip(folders):
    whole, _ = folders
    train(whole, federation("wyner_ziv"))
    text = gzip.decompress((whole.path / "clients.csv.gz").read_bytes()).decode()
    assert len(text.splitlines()) == 1 + ROUNDS * CLIENTS


@pytest.mark.parametrize("size", [10, 700, 3000])
def test_a_full_disk_is_one_clear_error_and_costs_what_came_after_the_checkpoint(
    folders, size, disk_of
):
    """Sizes are too small for the config, for the rounds, for a checkpoint."""
    whole, full = folders
    settings = federation("wyner_ziv")
    train(whole, settings)
    with disk_of(size), pytest.raises(InputError, match=r"can not be written to .*results_dir="):
        train(full, settings)
    assert not full.finished
    train(full, settings)
    assert tables(full) == tables(whole)
