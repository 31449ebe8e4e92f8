"""What `make interrupted` measures."""

import sys

import pandas as pd
import pytest
from interrupt_reproduce import differing_rows, interrupt


@pytest.fixture
def runs():
    return pd.DataFrame(
        {"id": ["a", "b"], "final_accuracy": [0.1 + 0.2, None], "wall_seconds": [1.0, 2.0]}
    )


def test_tables_differ_by_what_is_not_time(tmp_path, runs):
    changed = {
        "as it was": (runs, 0),
        "slower": (runs.assign(wall_seconds=9.0), 0),
        "in another order": (runs[::-1], 0),
        "the last digit": (runs.assign(final_accuracy=[0.3, None]), 2),
        "a run less": (runs[:1], 1),
        "a column less": (runs[["id", "wall_seconds"]], 2),
    }
    runs.to_csv(tmp_path / "alone.csv", index=False)
    for name, (killed, differing) in changed.items():
        killed.to_csv(tmp_path / "killed.csv", index=False)
        assert differing_rows(tmp_path / "alone.csv", tmp_path / "killed.csv") == differing, name


def test_all_processes_are_killed_and_what_there_was_is_counted(tmp_path):
    for name in ("1", "2", "3.partial", "3.lock"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = "import time; print('started', flush=True); time.sleep(60); print('ended')"
    kill = interrupt([sys.executable, "-c", parent, child], 3, tmp_path)
    assert kill == {"seconds since it was started": 3, "runs finished": 2, "runs half done": 1}
    assert (tmp_path / "log").read_text() == "started\n"
    assert interrupt([sys.executable, "-c", ""], 60, tmp_path) is None
