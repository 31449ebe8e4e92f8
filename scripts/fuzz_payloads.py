"""Fuzzes what decodes payloads, guided by the code that they reach, one compressor after the other.

    python scripts/fuzz_payloads.py [--minutes 60]

Each compressor is given the same time, half of it with its loops compiled as in use, but that they check
the bounds of their arrays, half of it with the loops interpreted, where the fuzzer sees what is reached in
them. A decode ends in a PayloadError or in finite numbers of the right shape, within seconds, and
without memory that the expected dim does not account for; anything else is a crash. It starts from the
inputs in tests/corpus/ and from what honest clients send, and keeps these, the smallest inputs that reach
the same as all found, and crashes. Writes results/fuzzing.csv and results/fuzzing.md, which sum up all
that was fuzzed so far. Exit status 1 if anything crashed.
"""

import argparse
import csv
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from math import ceil
from pathlib import Path

import atheris

RESULTS = Path("results/fuzzing.csv")
KERNELS = {"compiled": "0", "interpreted": "1"}  # and whether numba's compiler is off
_COLUMNS = ("compressor", "kernels", "executions", "seconds", "cpu_seconds", "crashes", "commit")
_SECONDS = 10  # that a decode may take; most take a millisecond
_ROOM = 2**28  # bytes that decodes may take beyond what is there before the first


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, help="all compressors together (60)")
    parser.add_argument("--kernels", choices=KERNELS, help="one kind of them alone, and no report")
    asked = parser.parse_args()
    if asked.kernels:
        return fuzz(asked.kernels, 60 * asked.minutes)
    crashed = [_fuzz_apart(kernels, asked.minutes / len(KERNELS)) for kernels in KERNELS]
    subprocess.run([sys.executable, Path(__file__).with_name("fuzzing_report.py")], check=True)
    return int(any(crashed))


def _fuzz_apart(kernels: str, minutes: float) -> int:
    """Starts a process of its own, as numba reads its environment once; returns its exit status."""
    command = [sys.executable, __file__, "--kernels", kernels, "--minutes", str(minutes)]
    with tempfile.TemporaryDirectory() as folder:
        numba = {"NUMBA_DISABLE_JIT": KERNELS[kernels], "NUMBA_BOUNDSCHECK": "1"}
        own = os.environ | numba | {"NUMBA_CACHE_DIR": folder, "TMPDIR": folder}
        return subprocess.run(command, env=own).returncode


def fuzz(kernels: str, seconds: float) -> int:
    """All compressors, in processes that this one forks once it has imported everything; 1: some crashed."""
    with atheris.instrument_imports(include=["wzfl"], exclude=_not_instrumented(kernels)):
        import hostile_payloads as hostile
        import torch

        from wzfl.environment import git_commit

        seeds = {name: hostile.seeds(name) for name in hostile.NAMES}  # which imports compressors

    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)  # of integers that wrap, as when compiled
    commit = git_commit()
    for name in hostile.NAMES:
        for data in seeds[name]:
            assert hostile.decoded(name, data), (name, data.hex())
    crashed = 0
    for name in hostile.NAMES:
        fuzzer = _Fuzzer(partial(hostile.decoded, name))
        fuzzer.add([*seeds[name], *hostile.corpus(name)])
        executions, *spent = fuzzer.run(ceil(seconds / len(hostile.NAMES)))
        crashes = fuzzer.crashes()
        sees_all = kernels == "interpreted" and not crashes
        found = fuzzer.smallest() if sees_all else fuzzer.inputs()
        hostile.keep(name, [*seeds[name], *found, *crashes])
        crashed += len(crashes)
        row = (name, kernels, executions, *spent, len(crashes), commit)
        _record(row)
        print(*row, flush=True)
    return int(crashed > 0)


class _Fuzzer:
    """libFuzzer on `decode`, in processes that are forked from this one."""

    def __init__(self, decode: Callable[[bytes], object]) -> None:
        self._decode = decode
        # Nothing that removes itself: a process that crashes ends by an exception.
        self._folder = Path(tempfile.mkdtemp())
        self._inputs, self._crashes = self._folder / "inputs", self._folder / "crashes"
        self._inputs.mkdir()
        self._crashes.mkdir()

    def add(self, inputs: list[bytes]) -> None:
        """Adds to the inputs that fuzzing starts from."""
        for number, data in enumerate(inputs):
            (self._inputs / f"{number}").write_bytes(data)

    def inputs(self) -> list[bytes]:
        """All that it started from or found to reach more."""
        return [path.read_bytes() for path in self._inputs.iterdir()]

    def crashes(self) -> list[bytes]:
        return [path.read_bytes() for path in self._crashes.iterdir()]

    def run(self, seconds: int) -> tuple[int, int, int]:
        """Executions, and the seconds that they took: all, and of a core; it ends with the first crash."""
        begin = time.monotonic()
        log, core = self._call(
            *(f"-max_total_time={seconds}", f"-timeout={_SECONDS}", "-max_len=512"),
            *("-print_final_stats=1", f"-artifact_prefix={self._crashes}/", str(self._inputs)),
        )
        executions = re.search(r"stat::number_of_executed_units: (\d+)", log)
        assert executions, log
        return int(executions[1]), round(time.monotonic() - begin), round(core)

    def smallest(self) -> list[bytes]:
        """A few small inputs that reach what all do, by what libFuzzer says of each in its merges."""
        paths = sorted(self._inputs.iterdir(), key=lambda path: path.stat().st_size)
        control = self._folder / "control"
        control.write_text("\n".join([str(len(paths)), "0", *map(str, paths), ""]))
        log, _ = self._call("-merge_inner=1", f"-merge_control_file={control}")
        # Of each input, the features that none of those before it reach.
        found = re.findall(r"^FT (\d+)(.*)$", control.read_text(), re.M)
        assert len(found) == len(paths), log
        return [paths[int(number)].read_bytes() for number, features in found if features.strip()]

    def _call(self, *arguments: str) -> tuple[str, float]:
        """What a process said that called libFuzzer with these arguments, and its seconds of a core."""
        path = self._folder / "log"
        child = os.fork()
        if not child:
            log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, sys.stdout.fileno())
            os.dup2(log, sys.stderr.fileno())
            _limit_memory()
            atheris.Setup([sys.argv[0], *arguments], self._decode)
            atheris.Fuzz()
            os._exit(0)
        used = os.wait4(child, 0)[2]
        return path.read_text(errors="replace"), used.ru_utime + used.ru_stime


def _not_instrumented(kernels: str) -> list[str]:
    """What numba compiles, it compiles as it is written."""
    if kernels == "interpreted":
        return []
    folder = Path(__file__).parents[1] / "wzfl" / "kernels"
    return ["wzfl.kernels", *(f"wzfl.kernels.{path.stem}" for path in folder.glob("*.py"))]


def _limit_memory() -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + _ROOM, hard))


def _record(row: tuple[object, ...]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerows([_COLUMNS, row] if new else [row])


if __name__ == "__main__":
    sys.exit(main())
