import ast
import ctypes
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from wzfl import InputError, environment
from wzfl.environment import describe_environment, keep_freed_memory, resolve_device

BENCHMARKS = ("rounds", "codecs", "growth", "memory", "gpu")  # scripts/benchmark_*.py
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid, flush=True)
child.wait()
"""
CHILD = """
import time
from wzfl.environment import exit_with_parent
exit_with_parent(0.05)
print("ready", flush=True)
time.sleep(600)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().split()[2] != "Z"


RUN = """
import sys
from wzfl.environment import own_cuda_device
print(own_cuda_device(2), own_cuda_device(2), own_cuda_device(1), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc")
def test_a_worker_does_not_outlive_its_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True
    )
    worker = int(parent.stdout.readline())
    assert parent.stdout.readline() == "ready\n"
    assert alive(worker)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_devices_resolve_or_are_refused():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match=r"device is auto, cpu, cuda .* got 'abacus'"):
        resolve_device("abacus")
    count = torch.cuda.device_count()
    with pytest.raises(InputError, match=f"device=cuda:{count}, but torch sees {count} CUDA"):
        resolve_device(f"cuda:{count}")


def test_runs_side_by_side_go_round_the_devices(tmp_path):
    def started():
        run = subprocess.Popen(
            [sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )  # fmt: skip
        runs.append(run)
        first, again, only = run.stdout.readline().split()
        assert (first, only) == (again, "0")
        return int(first)

    runs = []
    try:
        assert [started() for _ in range(3)] == [0, 1, 0]
        runs[1].kill()
        runs[1].wait()
        assert started() == 1
    finally:
        for run in runs:
            run.communicate()  # which ends its input, and so the run


def test_auto_is_the_device_of_this_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(environment, "_place", lambda: (6, None))
    assert resolve_device("auto") == torch.device("cuda:2")


def test_results_are_no_changes_of_the_code(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "a"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    (tmp_path / "results" / "runs.csv").write_text("new")
    commit = environment.git_commit()
    assert len(commit) == 40
    (tmp_path / "train.py").write_text("new")
    assert environment.git_commit() == f"{commit}+changes"


def test_metadata_says_what_and_where():
    described = describe_environment(torch.device("cpu"))
    assert described["device"] == "cpu"
    assert described["packages"]["torch"] == torch.__version__.split("+")[0]
    assert described["cores"] == os.cpu_count()


def test_what_a_system_lacks_is_done_without(monkeypatch):
    def missing(*_, **__):
        raise OSError

    monkeypatch.setenv("PATH", "")  # no git
    monkeypatch.setattr(Path, "read_text", missing)  # no /proc/cpuinfo
    monkeypatch.setattr(ctypes, "CDLL", missing)  # no glibc
    keep_freed_memory()
    assert environment.git_commit() is None
    assert environment.processor() == platform.processor()


@pytest.mark.parametrize(
    ("told", "turns"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_how_long_openmp_waits_is_said_before_torch_unless_the_user_did(told, turns):
    kept = {key: os.environ[key] for key in os.environ if "OMP" not in key}
    script = "import os, wzfl; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", script], env=kept | told, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == turns


@pytest.mark.parametrize(
    "name",
    ["train", "record_updates", "rate_distortion", *(f"benchmark_{part}" for part in BENCHMARKS)],
)
def test_what_trains_or_codes_imports_wzfl_before_torch(name):
    path = Path(__file__).parents[1] / "scripts" / f"{name}.py"
    imported = [
        getattr(node, "module", None) or node.names[0].name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    packages = [module.split(".")[0] for module in imported]
    assert packages.index("wzfl") < packages.index("torch")
