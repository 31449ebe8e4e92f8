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
def updates():
    return torch.randn(CLIENTS, 1000, generator=torch.Generator().manual_seed(0))
