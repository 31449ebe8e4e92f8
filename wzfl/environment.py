"""Device, determinism, memory and description of the process that carries out a run."""

import ctypes
import os
import platform
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import xxhash
from filelock import FileLock, Timeout

from wzfl.errors import InputError

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of <malloc.h>
_PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "constriction")


def resolve_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:<n>` stands for.

    `auto` is this process's own CUDA device where there is one; see `own_cuda_device`.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", own_cuda_device(torch.cuda.device_count()))
    device = None
    with suppress(RuntimeError):
        device = torch.device(name)
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device is auto, cpu, cuda or cuda:<n>; got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device={name}, but torch sees {torch.cuda.device_count()} CUDA devices; use auto or cpu"
        )
    return device


def own_cuda_device(devices: int) -> int:
    """Index of the CUDA device, of `devices`, that this process uses; processes are spread evenly.

    Processes of a user on a machine take the first place that is free, and places go round the devices:
    as many processes as devices have one each, and each further one shares. A job's number would not do:
    jobs take different times, so that two of the same device would run while another idles.
    """
    # Slurm and Ray show a run the devices that they assign to it, which most often is one.
    return _place()[0] % devices if devices > 1 else 0


@lru_cache
def _place() -> tuple[int, FileLock]:
    """The first place that no other process has, with its lock: cached, it is held until this one ends."""
    folder = Path(tempfile.gettempdir()) / f"wzfl-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    place = 0
    while True:
        lock = FileLock(folder / f"cuda_{place}.lock")
        with suppress(Timeout):
            lock.acquire(blocking=False)
            return place, lock
        place += 1


def keep_freed_memory() -> None:
    """Tells glibc to reuse large blocks instead of returning them to the system after each use.

    A round allocates the same large tensors again and again; page faults on fresh memory took a third
    to a half of an uncompressed round on a virtual machine. Does nothing where there is no glibc.
    """
    try:
        glibc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    glibc.mallopt(_M_MMAP_MAX, 0)  # no block straight from the system, to which it would go back
    glibc.mallopt(_M_ARENA_MAX, 1)  # one heap, so that threads reuse each other's blocks
    glibc.mallopt(_M_TRIM_THRESHOLD, -1)  # never


def compute_deterministically() -> None:
    """Makes torch give the same bits for the same inputs, or raise; to be called before CUDA starts.

    Convolutions keep float32's digits: else cuDNN may round what they multiply to 10 bits (TF32).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS's condition
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False
    # It also fills what torch.empty gives, up to 5 % of a round, though nothing reads that unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def exit_with_parent(seconds: float = 1.0) -> None:
    """Ends this process soon after the one that started it, however that one was killed.

    A process pool's workers would wait forever for a killed parent's next task.
    """
    name, parent = "exit_with_parent", os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os._exit(1)

    if not any(thread.name == name for thread in threading.enumerate()):
        threading.Thread(target=watch, name=name, daemon=True).start()


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions of code and packages, and the hardware, for a run's metadata."""
    return {
        "git_commit": git_commit(),
        "code": code_digest(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in _PACKAGES},
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def code_digest() -> str:
    """A hash of this package's files: the same as long as none of them changes, with git or without."""
    digest, package = xxhash.xxh3_64(), Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def git_commit() -> str | None:
    """The checkout's commit, with `+changes` if files that runs do not write differ; None without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        written = [f":(top,exclude){folder}" for folder in ("results", "tests/corpus")]
        changes = _git("status", "--porcelain", "--", ":/", *written)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + "+changes" * bool(changes)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def processor() -> str:
    """Name of the CPU's model, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
