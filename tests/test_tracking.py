"""What wandb has of runs and reports, read back with wandb's own reader, or sent to a server of ours."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import train
from conftest import SCRIPTS, finished, started
from presets import Preset

from wzfl.compressors.eden import Eden
from wzfl.partial_run import COLUMNS
from wzfl.tracking import Wandb

RUN = ["dataset=digits", "model=logistic", "threads=1", "compressor=qsgd", "bitrate=4"]
LONG = [*RUN, "rounds=300", "checkpoint_every=3"]
WANDB = [sys.executable, "-m", "wandb"]


@pytest.fixture
def command(call):
    """Calls scripts/train.py in this process; returns its exit status and what it printed."""
    return partial(call, train)


def records(path, kind):
    """The records of one kind in a .wandb file, as `wandb leet inspect` reads them."""
    done = subprocess.run(
        [*WANDB, "leet", "inspect", "--json", path], capture_output=True, text=True, check=True
    )
    lines = map(json.loads, done.stdout.splitlines())
    return [line[kind] for line in lines if line["type"] == kind]


def history(path):
    return [record["item"] for record in records(path, "history")]


def killed(folder, arguments):
    """Starts a run in `folder` and kills it after a checkpoint; its id."""
    process = started(folder, arguments)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (partial,) = folder.glob("results/runs/*.partial")
    return partial.stem


def same_rounds(history, rounds):
    """Asserts that a history has exactly these rounds, with exactly these values."""
    logged = pd.DataFrame(history)
    assert logged["_step"].tolist() == logged["round"].tolist() == rounds["round"].tolist()
    pd.testing.assert_frame_equal(logged[list(COLUMNS)], rounds[list(COLUMNS)], check_dtype=False)
    assert logged.total_uplink_bits.tolist() == rounds.uplink_bits.cumsum().tolist()


def rounds_of(run, folder="."):
    return pd.read_csv(Path(folder, "results/runs", run, "rounds.csv"))


def test_an_offline_run_is_kept_with_its_sweep_and_metrics(command):
    assert command("-m", *RUN, "rounds=6", "sweep=mine")[0] == 0
    (run,) = finished("results")
    (path,) = Path("results/wandb").glob(f"offline-run-*-{run}")
    same_rounds(history(path), rounds_of(run))

    (record,) = records(path, "run")
    assert record["run_group"] == "mine"
    assert record["job_type"] == "train"
    assert record["tags"] == ["qsgd", "digits", "iid"]
    assert record["config"]["update"]["run_id"] == run == record["run_id"]

    metrics = {metric["name"]: metric for metric in records(path, "metric")}
    assert set(metrics) == {*COLUMNS, "total_uplink_bits"}
    for name in ("train_loss", "test_loss", "test_accuracy"):
        assert metrics[name]["step_metric"] == "total_uplink_bits"
    assert metrics["nmse"]["step_metric"] == "round"


def test_nothing_is_kept_where_wandb_is_disabled(command, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tmp_path / "report.md").write_text("a report")
    assert command(*RUN, "rounds=1")[0] == 0
    Preset("make beyond", [], tmp_path, "wandb").track(tmp_path / "report.md")
    assert len(finished("results")) == 1
    assert list(tmp_path.rglob("wandb")) == []


def test_a_summary_has_the_best_and_the_last(command):
    command(*RUN, "rounds=12")
    (run,) = finished("results")
    (path,) = Path("results/wandb").glob(f"offline-run-*-{run}")
    done = subprocess.run(
        [*WANDB, "leet", "inspect", "--summary", "--json", path], capture_output=True, check=True
    )
    summary, rounds = json.loads(done.stdout)["summary"], rounds_of(run)
    accuracy = rounds.test_accuracy.dropna()
    assert summary["test_accuracy"] == {"max": accuracy.max(), "last": accuracy.iloc[-1]}
    assert summary["train_loss"]["min"] == rounds.train_loss.min()
    assert summary["total_uplink_bits"] == rounds.uplink_bits.sum()
    assert summary["bits_per_coordinate"] == rounds.uplink_bits.sum() / (12 * 10 * 650)
    assert summary["dim"] == 650


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_is_closed_as_failed_and_the_next_is_its_own(
    command, monkeypatch, failure
):
    def fail(*_):
        raise failure

    encode = Eden.encode
    monkeypatch.setattr(Eden, "encode", fail)
    with pytest.raises(failure):
        command("-m", *RUN, "rounds=2", "compressor=eden,qsgd", "hydra/launcher=basic")
    monkeypatch.setattr(Eden, "encode", encode)
    command(*RUN, "rounds=2")

    (run,) = finished("results")
    (path,) = Path("results/wandb").glob(f"offline-run-*-{run}")
    same_rounds(history(path), rounds_of(run))
    (failed,) = set(Path("results/wandb").glob("offline-run-*")) - {path}
    assert history(failed) == []
    assert records(failed, "exit")[0]["exit_code"] == 1


def test_a_run_that_goes_on_is_one_run_with_each_round_once(tmp_path, command, server):
    run = killed(tmp_path, LONG)
    sync = partial(subprocess.run, [*WANDB, "sync", "results/wandb"], cwd=tmp_path, timeout=300)
    sync(check=True)  # as much as the process had written
    assert "goes on after round" in command(*LONG)[1]
    (path,) = Path("results/wandb").glob("offline-run-*")
    same_rounds(history(path), rounds_of(run))

    sync(check=True)
    same_rounds(server.history(run), rounds_of(run))
    assert "No runs to sync" in sync(capture_output=True, text=True).stderr


def test_a_run_that_goes_on_online_adds_what_the_server_lacks(tmp_path, server):
    online = [*LONG, "tracking.mode=online"]
    run = killed(tmp_path, online)
    del server.histories[run][2:]  # as if the connection had been lost
    before = list(server.histories[run])
    subprocess.run([sys.executable, SCRIPTS / "train.py", *online], cwd=tmp_path, check=True)
    same_rounds(server.history(run), rounds_of(run, tmp_path))
    assert server.histories[run][: len(before)] == before


@pytest.mark.parametrize(
    ("lacking", "message"),
    [("account", "No API key configured"), ("network", "init_timeout")],
)
def test_without_an_account_or_network_online_is_one_clear_error(
    tmp_path, server, monkeypatch, lacking, message
):
    if lacking == "account":
        monkeypatch.delenv("WANDB_API_KEY")
    else:
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is there
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    done = subprocess.run(
        [sys.executable, SCRIPTS / "train.py", *RUN, "tracking.mode=online"],
        cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert "error: wandb can not begin a run with tracking.mode=online" in done.stderr
    assert message in done.stderr
    assert "`wandb login`, or tracking.mode=offline, then make wandb-sync\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_is_kept_with_its_figures_the_last_only(tmp_path, server):
    folder = tmp_path / "results/beyond"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures/errors.png").write_bytes(b"a figure")
    for text in ("a draft", "a report"):
        (folder / "report.md").write_text(text)
        Wandb().keep_report("beyond", folder / "report.md")
    (folder / "report.md").write_text("not kept yet")

    (path,) = folder.glob("wandb/offline-run-*")
    (run,) = records(path, "run")
    assert (run["run_id"], run["job_type"], run["tags"]) == ("report-beyond", "report", ["beyond"])
    (artifact,) = records(path, "artifact")
    assert (artifact["name"], artifact["type"]) == ("report-beyond", "report")
    files = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    assert sorted(files) == ["figures/errors.png", "report.md"]
    assert files["report.md"].read_text() == "a report"
    assert files["figures/errors.png"].read_bytes() == b"a figure"
    assert all(file.is_relative_to(path) for file in files.values())
    assert server.requests == []


def test_a_report_without_figures_is_kept_too(tmp_path, server):
    (tmp_path / "report.md").write_text("a report")
    Wandb().keep_report("tune", tmp_path / "report.md")
    (path,) = tmp_path.glob("wandb/offline-run-*")
    (artifact,) = records(path, "artifact")
    assert [entry["path"] for entry in artifact["manifest"]["contents"]] == ["report.md"]


def make(*arguments):
    """What a target of the Makefile prints, and its exit status, with the packages of this process."""
    binaries = f"BIN={Path(sys.executable).parent}"
    done = subprocess.run(
        ["make", "-o", ".venv/installed", "-C", SCRIPTS.parent, binaries, *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("target", ["dashboard", "wandb-sync"])
def test_without_runs_there_is_nothing_to_show_or_upload(tmp_path, target):
    status, printed = make(target, f"FOLDER={tmp_path}")
    assert status != 0
    assert f"no tracked runs in {tmp_path}" in printed
    assert "no tracked runs in results/nothing/wandb" in make(target, "PRESET=nothing")[1]


@pytest.mark.parametrize(("target", "called"), [("dashboard", "leet"), ("wandb-sync", "sync")])
def test_any_number_of_runs_is_shown_and_uploaded_from_any_folder(tmp_path, target, called):
    tracked = tmp_path / "a folder"
    for number in range(1500):
        path = tracked / f"offline-run-{number:0100}"
        path.mkdir(parents=True)
        (path / "run.wandb").touch()
    wandb = tmp_path / "wandb"
    wandb.write_text('#!/bin/sh\nfor each; do echo "[$each]"; done\n')
    wandb.chmod(0o755)
    status, printed = make(target, f"BIN={tmp_path}", f"FOLDER={tracked}")
    assert status == 0, printed
    assert f"[{called}]\n[{tracked}]\n" in printed


def test_an_upload_without_an_account_says_what_to_do(command, server, tmp_path, monkeypatch):
    command(*RUN, "rounds=1")
    monkeypatch.delenv("WANDB_API_KEY")
    status, printed = make("wandb-sync", f"FOLDER={tmp_path}/results/wandb")
    assert status != 0
    assert "Use `wandb login` to log in" in printed
    assert server.histories == {}
