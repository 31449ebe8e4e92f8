import os
import sys
from pathlib import Path

import pytest
import torch

from wzfl.public import Public

os.environ["WANDB_SILENT"] = "true"
torch.set_num_threads(1)  # pytest-xdist already uses the cores
SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

CLIENTS = 3


@pytest.fixture
def public():
    return Public(seed=1, round=2, clients=(4, 0, 9))


@pytest.fixture
def call(monkeypatch, tmp_path, capfd):
    """Calls a script's main in this process; returns its exit status and what it printed."""
    from run_command import run_command

    monkeypatch.delenv("WZFL_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPTS / f"{script.__name__}.py"), *arguments])
        status = 0
        try:
            run_command(script.main)
        except SystemExit as stop:
            status = stop.code
        printed = capfd.readouterr()
        return status, printed.out + printed.err

    return run


@pytest.fixture
def updates():
    return torch.randn(CLIENTS, 1000, generator=torch.Generator().manual_seed(0))
