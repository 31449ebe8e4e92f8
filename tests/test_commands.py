"""The commands as a user types them."""

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import rate_distortion
import torch
import train
import yaml
from conftest import SCRIPTS, finished, started
from hydra import compose, initialize_config_dir

from wzfl.channel import Faulty
from wzfl.client import FedSGD
from wzfl.config import build, conf_dir
from wzfl.environment import code_digest
from wzfl.partition import IID
from wzfl.prepared import prepared
from wzfl.side_information import Last

QUICK = ["dataset=digits", "model=logistic", "tracking=none", "rounds=6", "threads=1"]


@pytest.fixture
def command(call):
    """Calls scripts/train.py in this process; returns its exit status and what it printed."""
    return partial(call, train)


def test_a_run_says_what_it_does_and_leaves_its_folder(command):
    status, printed = command(*QUICK, "compressor=qsgd", "bitrate=4")
    assert status == 0
    assert (
        "on cpu: digits, 1437 training and 360 test examples, 10 clients, 10 per round" in printed
    )
    assert "model logistic: 650 parameters; compressor qsgd: 4 bits each, about 335 B" in printed
    (run,) = finished("results")
    folder = Path("results/runs", run)
    assert sorted(path.name for path in folder.iterdir()) == [
        "clients.csv.gz",
        "config.yaml",
        "metadata.json",
        "rounds.csv",
    ]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["compressor"]["bitrate"] == 4
    assert config["names"]["side_information"] == "zero"
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["summary"]["dim"] == 650
    assert metadata["environment"]["torch_threads"] == 1
    rounds = pd.read_csv(folder / "rounds.csv")
    assert rounds["round"].tolist() == [1, 2, 3, 4, 5, 6]
    assert rounds.test_accuracy.notna().tolist() == [False, False, False, False, True, True]


def test_the_same_run_twice_gives_the_same_rounds(command):
    for folder in ("first", "second"):
        assert command(*QUICK, f"results_dir={folder}")[0] == 0
    assert finished("first") == finished("second")
    (run,) = finished("first")
    first, second = (
        pd.read_csv(f"{f}/runs/{run}/rounds.csv", dtype=str) for f in ("first", "second")
    )
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))


def test_a_finished_run_is_not_trained_again(command):
    command(*QUICK)
    (run,) = finished("results")
    before = Path("results/runs", run, "metadata.json").stat().st_mtime_ns
    status, printed = command(*QUICK)
    assert status == 0
    assert "is already in" in printed
    assert "its data came from" not in printed
    assert "by other code" not in printed
    _, printed = command(*QUICK, "data_dir=elsewhere")
    assert "its data came from data, not from elsewhere" in printed
    assert Path("results/runs", run, "metadata.json").stat().st_mtime_ns == before
    older = Path("results/runs", run, "metadata.json")
    older.write_text(older.read_text().replace(code_digest(), "0123"))
    status, printed = command(*QUICK)
    assert status == 0
    assert "it was trained by other code of wzfl; remove it to train it anew" in printed


def test_marks_of_a_sweep_are_those_of_the_last_that_came_to_train(command):
    command("-m", *QUICK, "sweep=mine", "compressor=signsgd,qsgd")
    folder = Path("results/sweeps/mine")
    before = {mark.name: mark.read_text() for mark in folder.glob("*.run")}
    status, _ = command("-m", *QUICK, "sweep=mine", "compressor=signsgd,qsdg,eden")
    assert status != 0
    assert {mark.name: mark.read_text() for mark in folder.glob("*.run")} == before
    command("-m", *QUICK, "sweep=mine", "compressor=qsgd")
    assert {mark.name: mark.read_text() for mark in folder.glob("*.run")} == {
        "0.run": before["1.run"]
    }


def test_parts_of_one_s_own_are_used_as_the_docs_say(command, tmp_path, monkeypatch):
    text = (SCRIPTS.parent / "docs" / "library.md").read_text()
    (code,) = re.findall(r"```python\n(from dataclasses.*?)```", text, re.DOTALL)
    (tmp_path / "own.py").write_text(code)
    parts = re.findall(r"```yaml\n# (\S+/(\S+)\.yaml)\n(.*?)```", text, re.DOTALL)
    for path, _, lines in parts:
        (tmp_path / "conf" / path).parent.mkdir(parents=True)
        (tmp_path / "conf" / path).write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    chosen = [f"{Path(path).parent}={name}" for path, name, _ in parts]
    assert len(chosen) == 4
    options = ["--config-dir", str(tmp_path / "conf"), "tracking=none", "rounds=5", "threads=1"]
    status, printed = command(*options, *chosen)
    assert status == 0, printed
    (run,) = finished("results")
    assert rounds_of(run).side_information_error.tolist()[0] == 1
    assert rounds_of(run).side_information_error.tolist()[-1] < 0.5
    names = yaml.safe_load(Path("results/runs", run, "config.yaml").read_text())["names"]
    assert {f"{group}={name}" for group, name in names.items()} >= set(chosen)


def test_experiments_are_swept_one_by_one(command):
    """Hydra leaves out what each of them sweeps."""
    status, printed = command("-m", *QUICK, "experiment=smoke,digits_by_class")
    assert status == 2
    assert "experiment=smoke sweeps bitrate, compressor, seed, which is left out" in printed
    assert "start a command for each" in printed
    assert not finished("results")


def test_a_sweep_trains_a_fixed_rate_once(command):
    status, _ = command("-m", *QUICK, "sweep=mine", "compressor=signsgd,qsgd", "bitrate=1,2")
    assert status == 0
    assert len(finished("results")) == 3
    assert len(list(Path("results/sweeps/mine").glob("*.run"))) == 4


def test_side_information_does_not_matter_to_who_does_not_read_it(command):
    command("-m", *QUICK, "compressor=qsgd", "side_information=zero,last,mean")
    assert len(finished("results")) == 1
    (sweep,) = Path("results/sweeps").iterdir()  # named after its start, the same for all its runs
    assert len(list(sweep.glob("*.run"))) == 3
    command("-m", *QUICK, "compressor=wyner_ziv", "side_information=zero,last,mean")
    assert len(finished("results")) == 4


def summary_of(run):
    return json.loads(Path("results/runs", run, "metadata.json").read_text())["summary"]


def rounds_of(run):
    return pd.read_csv(Path("results/runs", run, "rounds.csv"))


def test_a_federation_is_what_its_settings_say():
    changed = ["dataset=digits", "model=logistic", "compressor=signsgd", "client.batch_size=7"]
    changed += ["clients=5", "clients_per_round=2", "partition.imbalance=1", "seed=3"]
    changed += ["channel=faulty", "channel.loss=0.25", "resend=true", "side_information.margin=1.5"]
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        config = compose("train", overrides=changed)
    federation, state, data = prepared(config, torch.device("cpu"))
    assert federation.model.dim == 650
    for shard, part in zip(
        federation.shards, IID(5, imbalance=1.0).split(data.train_y, 3), strict=True
    ):
        assert torch.equal(shard.x, data.train_x[part])
        assert torch.equal(shard.y, data.train_y[part])
    assert federation.work == FedSGD(batch_size=7)
    assert federation.compressor == build(config.compressor)
    assert torch.equal(state.server.weights.detach(), federation.model.init(3))
    assert federation.side_information == Last(margin=1.5)
    assert federation.aggregation == "majority_vote"
    assert (federation.clients_per_round, federation.seed) == (2, 3)
    assert federation.channel == Faulty(loss=0.25)
    assert federation.resend


def test_runs_of_other_seeds_begin_with_other_weights(command):
    """All examples together are the same ones."""
    command("-m", *QUICK, "rounds=1", "client=full_gradient", "seed=0,1")
    one, other = (rounds_of(run).train_loss[0] for run in finished("results"))
    assert abs(one - other) > 1e-3


def test_a_run_s_payloads_take_the_channel_that_it_names(command):
    command(*QUICK, "channel=faulty", "channel.loss=1", "rounds=2")
    (run,) = finished("results")
    assert rounds_of(run).lost.tolist() == [10, 10]


@pytest.mark.parametrize(("compressor", "floats"), [("topk", 650), ("qsgd", 0)])
def test_a_run_tells_what_its_clients_keep(command, compressor, floats):
    command(*QUICK, "rounds=1", f"compressor={compressor}")
    (run,) = finished("results")
    assert summary_of(run)["client_floats"] == floats


@pytest.mark.parametrize(("on_failure", "runs"), [("side", 2), ("clip", 1)])
def test_whether_clients_send_again_does_not_matter_where_failures_are_used(
    command, on_failure, runs
):
    failures = ["compressor=wyner_ziv", f"compressor.on_failure={on_failure}"]
    command("-m", *QUICK, "rounds=1", *failures, "resend=false,true")
    assert len(finished("results")) == runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compressor=gzip"], "Could not find 'compressor/gzip'"),
        (["bitrate=17"], "bitrate=17 is out of range for wyner_ziv: it takes 0.02 to 16.0"),
        (["compressor=qsgd", "bitrate=0.01"], "bitrate=0.01 is out of range for qsgd"),
        (
            ["clients_per_round=11"],
            "clients_per_round must be 1 to 10, the number of clients; got 11",
        ),
        (["bitrat=2"], "error: no such setting bitrat; did you mean bitrate?\n"),
        (["+bitrat=2"], "error: no such setting bitrat; did you mean bitrate?\n"),
        (["lr=0.5"], "error: no such setting lr; did you mean server.optimizer.lr?\n"),
        (["+lr=0.5"], "error: no such setting lr; did you mean server.optimizer.lr?\n"),
        (["+draws=2"], "error: no such setting draws; --help lists those there are\n"),
        (["experimen=smoke"], "error: no such setting experimen; --help lists those there are\n"),
        (["dataset=mnist"], "data set mnist: not in"),
        (
            ["dataset=mnist", "data_dir=/dev/null/x"],
            "that folder can not be written to download it",
        ),
        (
            ["dataset=image_folder"],
            "add dataset.folder=<name below data_dir>, which is data; see conf",
        ),
        (["dataset=cifar10_jpeg"], "no folder data/cifar10_jpeg/train"),
        (["device=cuda:99"], "device=cuda:99, but torch sees"),
        (["device=abacus"], "device is auto, cpu, cuda or cuda:<n>; got 'abacus'"),
        (["device=mps"], "device is auto, cpu, cuda or cuda:<n>; got 'mps'"),
        (["results_dir=/dev/null/x"], "results can not be written to /dev/null/x/runs"),
        (["rounds=0"], "rounds must be greater than or equal to 1; got 0; see conf/train.yaml"),
        (["eval_every=null"], "eval_every must be a valid integer; got None; see conf/train.yaml"),
        (["seed=abc"], "seed must be a valid integer; got 'abc'; see conf/train.yaml"),
        (["bitrate=nan"], "bitrate must be a finite number; got nan; see conf/train.yaml"),
        (["resend=1"], "resend must be a valid boolean; got 1; see conf/train.yaml"),
        (["clients=10000"], "clients=10000 can not share 1437 training examples"),
        (
            ["compressor=qsgd", "compressor.bucket=2.5"],
            "compressor.bucket must be a valid integer; got 2.5; see conf/compressor/qsgd.yaml",
        ),
        (
            ["compressor=qsgd", "compressor.bucket=0"],
            "bucket must be at least 1; got 0; see conf/comp",
        ),
        (
            ["compressor=diana", "compressor.compressor.bitrate=abc"],
            "compressor.compressor.bitrate must be a valid number; got 'abc'; see conf/compressor/diana",
        ),
        (["compressor=qsgd", "compressor.bukcet=2"], "did you mean compressor.bucket?\n"),
        (["compressor._target_=wzfl.nothing"], "wzfl.nothing can not be built"),
        (
            ["+compressor.bukcet=2"],
            "no such setting compressor.bukcet; wzfl.compressors.wyner_ziv.WynerZiv takes bitrate,",
        ),
        (
            ["+server.optimizer.learning_rate=2"],
            "no such setting server.optimizer.learning_rate; torch.optim.SGD takes params, lr, momentum,",
        ),
        (["side_information=null"], "null is no choice of a group; --help lists those there are\n"),
        (["side_information=null,last", "-m"], "null is no choice of a group; --help lists"),
        (["--cfg", "job", "-m"], "Only one of --run, --multirun, --cfg,"),
        (
            ["hydra/launcher=processes", "hydra.launcher.n_jobs=0", "-m"],
            "hydra.launcher.n_jobs must be at least 1, or -1 for all cores\n",
        ),
        (["server.optimizer.lr=-1"], "Invalid learning rate: -1; see conf/server/"),
        (["partition.imbalance=1e9"], "an imbalance of 0 to 10"),
        (["model=mlp", "model.hidden=[0]"], "model.hidden must be numbers of at least 1; got [0]"),
        (["model=resnet", "model.width=7"], "model.width=7 makes 28 channels, which do not divide"),
        (["tracking=wandb", "tracking.mode=abc"], "tracking.mode must be 'offline' or 'online'"),
        (["server.aggregation=median"], "got 'median'"),
        (["client.batch_size=0"], "client.batch_size must be at least 1; got 0"),
        (["partition=dirichlet", "partition.alpha=-1"], "partition.alpha must be above 0; got -1"),
    ],
)
def test_bad_input_is_one_message_without_a_traceback(command, arguments, message):
    status, printed = command(*QUICK, *arguments)
    assert status == 2
    assert "error: " in printed
    assert message in printed
    assert "Traceback" not in printed
    assert "bits each" not in printed
    assert not list(Path("results/runs").glob("*.partial"))
    assert finished("results") == []


@pytest.mark.parametrize("group", ["dataset", "server", "tracking"])
def test_a_choice_that_an_experiment_makes_as_a_value_is_refused(command, tmp_path, group):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{group}: some\n")
    status, printed = command(f"--config-dir={tmp_path}", "experiment=mine", *QUICK)
    assert status == 2
    assert f"{group} must be settings, as those in conf/{group}/; got 'some'" in printed
    assert f"did you mean `- override /{group}: some` under defaults?" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    "group", sorted({path.parent.name for path in conf_dir().glob("*/*.yaml")})
)
def test_what_is_no_choice_of_a_group_is_refused_with_those_there_are(call, group):
    choices = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    script = rate_distortion if group == "source" else train
    status, printed = call(script, f"{group}={choices[0]}s")
    assert status == 2
    assert f"Could not find '{group}/{choices[0]}s'" in printed
    assert printed.split(f"Available options in '{group}':")[1].split()[: len(choices)] == choices
    assert "Traceback" not in printed
    assert not Path("results").exists()


def test_a_sweep_goes_on_after_a_run_that_can_not(command):
    status, printed = command("-m", *QUICK, "compressor=qsgd", "bitrate=99,2")
    assert status == 2
    assert "bitrate=99 is out of range" in printed
    assert len(finished("results")) == 1


def test_a_sweep_names_every_run_that_can_not(command):
    sweep = ["hydra/launcher=basic", "compressor=eden,none,wyner_ziv_e8", "bitrate=9"]
    status, printed = command("-m", *QUICK, *sweep)
    assert status == 2
    failed = [line for line in printed.splitlines() if line.startswith("error: run ")]
    assert [line.split("bitrate=9 ")[-1][:25] for line in failed] == [
        "is out of range for eden:",
        "is out of range for wyner",
    ]
    assert len(finished("results")) == 1


def test_a_diverged_run_is_recorded_as_such(command):
    settings = ["server.optimizer.lr=1e38", "rounds=60", "compressor=none"]
    status, printed = command(*QUICK, *settings)
    assert status == 0
    assert "diverged: the training loss of round" in printed
    (run,) = finished("results")
    metadata = json.loads(
        Path("results/runs", run, "metadata.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is not JSON"),
    )
    rounds = pd.read_csv(Path("results/runs", run, "rounds.csv"))
    assert metadata["summary"]["diverged_in_round"] == len(rounds) + 1


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_not_taken_for_finished_and_goes_on(tmp_path, command, stop):
    arguments = [*QUICK, "rounds=300", "checkpoint_every=3"]
    process = started(tmp_path, arguments)
    process.send_signal(stop)
    process.communicate(timeout=60)
    (partial,) = [path for path in tmp_path.glob("results/runs/*") if path.is_dir()]
    assert partial.name.endswith(".partial")

    status, printed = command(*arguments)
    assert status == 0
    assert "goes on after round" in printed
    assert command(*arguments, "results_dir=whole")[0] == 0
    (run,) = finished("results")
    assert f"{run}.partial" == partial.name
    tables = [pd.read_csv(f"{folder}/runs/{run}/rounds.csv") for folder in ("results", "whole")]
    assert len(tables[0]) == 300
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables), rtol=0)


def test_a_killed_worker_ends_the_sweep_which_goes_on_later(tmp_path, command):
    sweep = ["-m", *QUICK, "rounds=300", "checkpoint_every=3"]
    sweep += ["compressor=qsgd", "seed=0,1,2", "sweep=mine"]
    side_by_side = [
        "hydra/launcher=processes",
        "hydra.launcher.n_jobs=2",
    ]  # workers, on one core too
    process = started(tmp_path, [*sweep, *side_by_side])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [pid for pid in children if "popen_loky" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(int(workers[0]), signal.SIGKILL)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: a process of this sweep was killed" in printed
    assert "Traceback" not in printed

    status, printed = command(*sweep)
    assert status == 0
    assert "goes on after round" in printed
    assert len(finished("results")) == 3


def test_reproduce_goes_on_without_absent_data(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "WZFL_DATA_DIR"}
    environment["WZFL_DATA_DIR"] = str(tmp_path / "nothing")
    probe = (
        "import sys\n"
        f"sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "import presets, reproduce\n"
        "print(reproduce.missing_datasets(presets.experiments_of('default')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True
    )
    assert "mnist" in done.stdout
    assert "digits" not in done.stdout
