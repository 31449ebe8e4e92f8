"""The saved view of uploaded runs, without a network."""

import json
import subprocess
import sys

import pytest
import wandb_workspace
from conftest import SCRIPTS

from wzfl.errors import InputError
from wzfl.partial_run import COLUMNS


@pytest.fixture
def described():
    pytest.importorskip("wandb_workspaces", reason="needs pip install -e '.[dashboards]'")
    view = wandb_workspace.workspace("someone", "wzfl")
    return json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True))


def test_it_draws_what_runs_log(described):
    (section,) = described["spec"]["section"]["panelBankConfig"]["sections"]
    lines = {
        panel["config"]["metrics"][0]: panel["config"]["xAxis"]
        for panel in section["panels"]
        if panel["viewType"] == "Run History Line Plot"
    }
    assert lines == {
        "test_accuracy": "total_uplink_bits",
        "train_loss": "total_uplink_bits",
        "nmse": "round",
        "side_information_error": "round",
        "decode_failures": "round",
    }
    assert set(lines) <= set(COLUMNS)
    (bars,) = [panel for panel in section["panels"] if panel["viewType"] == "Bar Chart"]
    assert bars["config"]["metrics"] == ["summary_metrics.bits_per_coordinate"]


def test_it_groups_training_runs_by_compressor_and_bitrate(described):
    (shown,) = described["spec"]["section"]["runSets"]
    keys = [(key["section"], key["name"]) for key in shown["grouping"]]
    assert keys == [("config", "names.value.compressor"), ("config", "bitrate.value")]
    (only,) = shown["filters"]["filters"]
    assert (only["key"]["name"], only["op"], only["value"]) == ("jobType", "=", "train")


def save(*arguments):
    """What the command prints, and its exit status."""
    command = [sys.executable, SCRIPTS / "wandb_workspace.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def test_the_command_saves_one_view(server, described):
    status, printed = save("--entity", "someone")
    assert status == 0, printed
    (view,) = server.views
    assert (view["entityName"], view["projectName"]) == ("someone", "wzfl")
    assert json.loads(view["spec"]).keys() == described["spec"].keys()
    assert f"{server.url}/someone/wzfl" in printed


def test_without_an_account_it_says_what_to_do(server, described, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    status, printed = save("--entity", "someone")
    assert status == 2
    assert "error: no view can be made in someone/wzfl (No API key configured." in printed
    assert "Traceback" not in printed
    assert server.views == []


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(InputError, match="make wandb-workspace ENTITY=NAME"):
        wandb_workspace.workspace("someone", "wzfl")


def test_it_wants_to_know_whose_project_it_is():
    status, printed = save()
    assert status == 2
    assert "--entity" in printed
