"""What is said of a sweep before it starts."""

from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import sweep_size
from hydra import compose, initialize_config_dir
from sweep_size import Size, choices, count, format_sizes, measure_sweep

from wzfl.config import conf_dir
from wzfl.results import ROUNDS

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))


def test_what_the_command_line_says_counts():
    params = {"compressor": "none,qsgd,topk", "bitrate": "1,4", "seed": "0,1,2"}
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        taken = choices(params, ["compressor=signsgd", "seed=range(0,5)", "model=glob(*cnn)"])
    assert taken == {
        "compressor": ["signsgd"],
        "bitrate": ["1", "4"],
        "seed": ["0", "1", "2", "3", "4"],
        "model": ["cnn", "small_cnn"],
    }
    assert count(taken) == 20
    assert count({}) == 1


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_run_of_an_experiment_asks_for_more_clients_than_there_are(name):
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        config = compose("train", [f"experiment={name}"], return_hydra_config=True)
        taken = choices(config.hydra.sweeper.params, [])
        swept = [key for key in ("clients", "clients_per_round") if key in taken]
        for values in product(*(taken[key] for key in swept)):
            numbers = [f"{key}={value}" for key, value in zip(swept, values, strict=True)]
            run = compose("train", [f"experiment={name}", *numbers])
            assert run.clients_per_round <= run.clients


def test_a_sweep_is_timed_by_some_of_its_rounds():
    size = measure_sweep(["experiment=smoke", "seed=0,1,2", "compressor=none,qsgd", "rounds=3600"])
    assert size.runs == 12
    assert 0.01 < size.hours < 3  # 43 200 rounds of a millisecond or some


def test_every_compressor_of_a_sweep_is_timed(monkeypatch):
    timed, times = [], iter([(1.0, 0.0), (2.0, 60.0), (30.0, 6.0)])
    monkeypatch.setattr(sweep_size, "_times", lambda run: timed.append(run) or next(times))
    swept = ["compressor=none,qsgd,topk", "bitrate=1,4", "seed=0,1", "rounds=300", "eval_every=6"]
    size = measure_sweep(["experiment=smoke", *swept])
    assert size == Size(12, 12 * 300 * (33 + 66 / 6) / 3 / 3600)
    assert [run[:3] for run in timed] == [
        ["compressor=none", "bitrate=1", "seed=0"],
        ["compressor=qsgd", "bitrate=4", "seed=1"],
        ["compressor=topk", "bitrate=1", "seed=0"],
    ]


def test_rounds_and_evaluations_are_told_apart(monkeypatch):
    """The experiment's own `eval_every`, 1 perhaps, would have evaluations in all rounds."""

    def trained(command, **_options):
        options = dict(each.split("=", 1) for each in command[2:])
        assert (options["rounds"], options["eval_every"]) == ("3", "3")
        folder = Path(options["results_dir"], "runs", "one")
        folder.mkdir(parents=True)
        pd.DataFrame({"round": [1, 2, 3], "seconds": [9, 0.5, 2]}).to_csv(folder / ROUNDS)

    monkeypatch.setattr("subprocess.run", trained)
    assert sweep_size._times(["eval_every=1"]) == (0.5, 1.5)


def test_the_hours_of_all_sweeps_are_shared_by_processes(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    text = format_sizes({"one": Size(20, 6.0), "other": Size(10, 2.0)})
    assert "one: 20 runs, 6.00 h of one process" in text
    assert "at most 30 runs, about 2.0 h with 4 processes" in text
