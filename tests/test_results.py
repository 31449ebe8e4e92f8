import copy
import threading
import time
from types import SimpleNamespace

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from wzfl import InputError
from wzfl.client_records import CLIENT_COLUMNS
from wzfl.config import conf_dir
from wzfl.frame import VERSION
from wzfl.partial_run import COLUMNS, PartialRun
from wzfl.results import (
    RunFolder,
    SweepFolder,
    described,
    load_clients,
    load_rounds,
    run_id,
)

CONFIG = {
    "seed": 0,
    "bitrate": 2,
    "data_dir": "data",
    "results_dir": "results",
    "device": "auto",
    "threads": None,
    "sweep": None,
    "tracking": {"mode": "offline"},
    "dataset": {"name": "mnist", "data_dir": "data"},
    "compressor": {"bitrate": 2},
}


STATE = SimpleNamespace(round=0)  # of runs without checkpoints


def changed(*path, to):
    config = copy.deepcopy(CONFIG)
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return config


@pytest.mark.parametrize(
    "config",
    [
        changed("data_dir", to="/elsewhere"),
        changed("dataset", "data_dir", to="/elsewhere"),
        changed("results_dir", to="/elsewhere"),
        changed("tracking", to=None),
        changed("sweep", to="mine"),
        changed("device", to="cuda"),
        changed("threads", to=1),
        changed("compressor", "bitrate", to=2.0),
        changed("bitrate", to=4),  # of a compressor that takes none
    ],
)
def test_an_id_does_not_depend_on_where_and_how(config):
    assert run_id(config) == run_id(CONFIG)


@pytest.mark.parametrize(
    "config",
    [
        changed("seed", to=1),
        changed("compressor", "bitrate", to=2.5),
        changed("dataset", "name", to="digits"),
    ],
)
def test_an_id_depends_on_what_is_computed(config):
    assert run_id(config) != run_id(CONFIG)


def test_an_id_depends_on_every_setting_but_these():
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        settings = OmegaConf.to_container(compose("train"), resolve=False)
    ignored = {key for key in settings if run_id(settings | {key: "other"}) == run_id(settings)}
    assert ignored == {
        *("data_dir", "results_dir", "sweep", "tracking"),
        *("device", "threads", "checkpoint_every"),
        *("bitrate", "lr_of"),  # which count where they are used
    }


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"resend": False}, set()),
        ({"resend": True}, {"resend"}),
        ({"channel": {}, "names": {"channel": "perfect", "model": "mlp"}}, {"names"}),
        ({"channel": {}, "names": {"channel": "faulty", "model": "mlp"}}, {"channel", "names"}),
    ],
)
def test_what_does_nothing_is_not_described(more, kept):
    """Runs of before there was such a setting keep their ids."""
    settings = described(CONFIG | more)
    assert set(settings) == set(CONFIG) | kept
    assert settings.get("names", {}).get("channel") != "perfect"
    assert run_id(CONFIG | more) == run_id(settings)


def test_an_id_depends_on_the_wire_format(monkeypatch):
    before = run_id(CONFIG)
    monkeypatch.setattr("wzfl.results.VERSION", VERSION + 1)
    assert run_id(CONFIG) != before


def records(count):
    for round in range(1, count + 1):
        client = dict.fromkeys(CLIENT_COLUMNS, 0.1) | {"round": round, "age": float("nan")}
        yield dict.fromkeys(COLUMNS, 0.1) | {
            "round": round,
            "test_accuracy": float("nan"),
            "clients": [client] * 2,
        }


def begun(folder):
    partial = PartialRun(folder, {"processor": "some"})
    partial.begin(CONFIG, STATE)
    return partial


def test_a_run_is_there_when_it_is_finished(tmp_path):
    folder = RunFolder(tmp_path / "runs", "abc")
    with folder.claimed():
        partial = begun(folder)
        assert len(list(partial.record(records(3), STATE))) == 3
        assert not folder.finished
        partial.finish({"summary": {}})
    assert folder.finished
    assert sorted(path.name for path in folder.root.iterdir()) == ["abc"]
    rounds = load_rounds(folder.path)
    assert tuple(rounds.columns) == COLUMNS
    assert rounds["round"].tolist() == [1, 2, 3]
    assert rounds["nmse"].tolist() == [0.1] * 3
    assert rounds["test_accuracy"].isna().all()
    clients = load_clients(folder.path)
    assert list(clients.columns) == CLIENT_COLUMNS
    assert clients["round"].tolist() == [1, 1, 2, 2, 3, 3]
    assert clients["age"].isna().all()


def test_rounds_are_on_disk_as_they_come(tmp_path):
    folder = RunFolder(tmp_path, "abc")
    stream = begun(folder).record(records(3), STATE)
    next(stream)
    assert len(pd.read_csv(tmp_path / "abc.partial" / "rounds.csv")) == 1


def test_what_fails_in_a_round_is_not_said_of_the_results(tmp_path):
    def failing():
        yield from records(1)
        raise OSError(28, "no room", "a cache of the compiler's")

    with pytest.raises(OSError, match="a cache of the compiler's"):
        list(begun(RunFolder(tmp_path, "abc")).record(failing(), STATE))
    assert len(pd.read_csv(tmp_path / "abc.partial" / "rounds.csv")) == 1


def test_what_a_killed_run_left_is_started_anew(tmp_path):
    folder = RunFolder(tmp_path, "abc")
    next(begun(folder).record(records(3), STATE))
    assert not folder.finished
    partial = begun(folder)
    list(partial.record(records(2), STATE))
    partial.finish({})
    assert len(load_rounds(folder.path)) == 2


def test_a_folder_that_can_not_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"can not be written to .*results_dir="),
        RunFolder(tmp_path / "file" / "runs", "abc").claimed(),
    ):
        pass


def test_a_sweep_knows_its_finished_runs(tmp_path):
    folder = SweepFolder(tmp_path / "sweep")
    for job, id in enumerate(["b", "a", "a"]):
        folder.mark(job, id)
    assert folder.count() == 3
    assert folder.ids() == ["a", "b"]
    assert set(folder.marks()) == {"0.run", "1.run", "2.run"}
    folder.forget(["0.run", "1.run", "7.run"])
    assert folder.ids() == ["a"]


def test_one_process_at_a_time_has_a_run(tmp_path):
    """Threads that claim it again and again never meet inside, though the lock's file comes and goes."""
    inside, most = [0], [0]

    def claim():
        for _ in range(20):
            with RunFolder(tmp_path, "abc").claimed():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
