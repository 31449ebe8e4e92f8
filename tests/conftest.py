import os
import resource
import runpy
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from wandb_server import wandb_server

import wzfl.products
from wzfl.public import Public

# No test talks to W&B, nor to those whom it tells how it is used.
os.environ |= {"WANDB_SILENT": "true", "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
NO_NETWORK = Path(__file__).parent / "no_network"
if str(NO_NETWORK) not in sys.path:  # processes of pytest-xdist have it from their parent
    runpy.run_path(str(NO_NETWORK / "sitecustomize.py"))
    paths = [str(NO_NETWORK), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
    os.environ[name] = "http://127.0.0.1:9"  # nobody is there: what is not Python goes astray
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
torch.set_num_threads(1)  # pytest-xdist already uses the cores
SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

CLIENTS = 3


@pytest.fixture(params=[1, 3])
def threads(request):
    """So many of torch's."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=["mkl", "openblas"])
def blas(request, monkeypatch):
    """Which library multiplies matrices, if torch's is MKL."""
    monkeypatch.setattr(wzfl.products, "_openblas_is_faster", lambda: request.param == "openblas")


@pytest.fixture
def disk_of():
    """Files can not grow beyond so many bytes, as on a disk that is full."""

    @contextmanager
    def limited(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)

    return limited


def finished(root):
    folders = [path for path in Path(root, "runs").glob("*") if path.is_dir()]
    return sorted(path.name for path in folders if path.suffix != ".partial")


def started(folder, arguments):
    """A process of scripts/train.py in `folder`, which has written a checkpoint."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "train.py"), *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(folder.glob("results/runs/*/round_*.safetensors")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


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
        try:
            run_command(script.main)
        except SystemExit as stop:
            status = stop.code or 0
        printed = capfd.readouterr()
        return status, printed.out + printed.err

    return run


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A W&B server at which processes that tests start are logged in."""
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("WANDB_MODE")
        # Else they would share the process that writes for this one.
        monkeypatch.delenv("WANDB_SERVICE", raising=False)
        yield server


@pytest.fixture
def updates():
    return torch.randn(CLIENTS, 1000, generator=torch.Generator().manual_seed(0))
