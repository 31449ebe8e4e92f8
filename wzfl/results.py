"""Runs on disk: one folder each, there as a whole or not at all.

A run writes into `<id>.partial/` and renames it to `<id>/` when it is done, so that a folder without
the suffix is a finished run, whenever the process was killed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from wzfl.errors import InputError
from wzfl.frame import VERSION

CONFIG, ROUNDS, CLIENTS = "config.yaml", "rounds.csv", "clients.csv.gz"
METADATA = "metadata.json"
_NOT_IN_ID = {
    # Where a run's files are and how it is carried out, not what it computes.
    "data_dir",
    "results_dir",
    "tracking",
    "sweep",
    "device",
    "threads",
    "checkpoint_every",
    # These count where they are used, as a compressor's bitrate and a server's learning rate.
    "bitrate",
    "lr_of",
}


def described(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out a channel that is perfect, and `resend` where it is false.

    A run is then described by what it was before there were such settings, and keeps its id.
    """
    left, names = dict(settings), settings.get("names")
    if isinstance(names, Mapping) and names.get("channel") == "perfect":
        left.pop("channel", None)
        left["names"] = {key: name for key, name in names.items() if key != "channel"}
    if not left.get("resend"):
        left.pop("resend", None)
    return left


def run_id(settings: Mapping[str, Any]) -> str:
    """Hashes what a run computes, the wire format's version included, to 12 hexadecimal digits."""
    relevant = {"wire_format": VERSION} | _relevant(
        {key: value for key, value in described(settings).items() if key not in _NOT_IN_ID}
    )
    text = json.dumps(relevant, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@contextmanager
def locked(path: Path, busy: str = "") -> Iterator[None]:
    """Lets one process at a time into the block; `path` is there as long as one waits or is inside.

    Who has to wait prints `busy`, if there is any.

    Raises:
        InputError: the folder of `path` can not be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if busy:
                print(busy, flush=True)
            lock.acquire()
    except OSError as error:
        raise InputError(
            f"results can not be written to {path.parent.absolute()} ({error.strerror}); choose"
            " another folder with results_dir=..."
        ) from error
    try:
        yield
    finally:
        # While it is held: whoever waits for it notices that its file is gone, and asks anew.
        path.unlink(missing_ok=True)
        lock.release()


@dataclass(frozen=True)
class RunFolder:
    """Where one run is written.

    Attributes:
        root: the folder of all runs.
        id: the run's id.
    """

    root: Path
    id: str

    @property
    def path(self) -> Path:
        return self.root / self.id

    @property
    def finished(self) -> bool:
        return self.path.is_dir()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other processes from the same run until the block ends, or this process does.

        Raises:
            InputError: the results folder can not be written.
        """
        with locked(self.root / f"{self.id}.lock"):
            yield

    @property
    def partial(self) -> Path:
        """The folder that the run is written to until it is finished."""
        return self.root / f"{self.id}.partial"


@dataclass(frozen=True)
class SweepFolder:
    """Keeps which runs of a sweep are finished: a file per job, `<job>.run`, holds the run's id.

    Attributes:
        path: the sweep's folder.
    """

    path: Path

    def marks(self) -> dict[str, int]:
        """Returns when each mark was last written, in nanoseconds, by its file's name."""
        found = {}
        for mark in self.path.glob("*.run"):
            with suppress(FileNotFoundError):  # someone else forgets it meanwhile
                found[mark.name] = mark.stat().st_mtime_ns
        return found

    def forget(self, names: Iterable[str]) -> None:
        """Removes marks, those of an earlier sweep of the same name; its runs stay."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def mark(self, job: int, id: str) -> None:
        """Notes that a job's run is finished."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / f"{job}.run").write_text(id)

    def count(self) -> int:
        """Counts the jobs that have finished."""
        return len(list(self.path.glob("*.run")))

    def ids(self) -> list[str]:
        """Lists the ids of the finished runs, each once."""
        return sorted({mark.read_text() for mark in self.path.glob("*.run")})


def load_config(path: Path) -> dict[str, Any]:
    """Reads the settings of a run from its folder."""
    settings: dict[str, Any] = yaml.safe_load((path / CONFIG).read_text())
    return settings


def load_metadata(path: Path) -> dict[str, Any]:
    """Reads a run's summary, and the code, versions and hardware that carried it out."""
    metadata: dict[str, Any] = json.loads((path / METADATA).read_text())
    return metadata


def load_clients(path: Path) -> pd.DataFrame:
    """Reads a run's clients.csv.gz, a row per round and client."""
    return pd.read_csv(path / CLIENTS)


def load_rounds(path: Path) -> pd.DataFrame:
    """Reads a run's rounds.csv, a row per round."""
    return pd.read_csv(path / ROUNDS)


def _relevant(value: Any) -> Any:
    """Leaves out paths, and makes 2 and 2.0 the same."""
    if isinstance(value, Mapping):
        return {key: _relevant(inner) for key, inner in value.items() if key != "data_dir"}
    if isinstance(value, list | tuple):
        return [_relevant(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
