"""A run that is being written, and that goes on where it was when its process is killed.

Every round is on disk as it comes. Now and then so is the state after it; of a run that was killed, what
came after the last whole checkpoint is computed again, and comes out the same.
"""

import csv
import gzip
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from wzfl import checkpoint
from wzfl.client_records import CLIENT_COLUMNS
from wzfl.errors import InputError
from wzfl.federation import State
from wzfl.replacing import replacing
from wzfl.results import CLIENTS, CONFIG, METADATA, ROUNDS, RunFolder, load_rounds

COLUMNS = (
    "round",
    "uplink_bits",
    "downlink_bits",
    "train_loss",
    "test_loss",
    "test_accuracy",
    "nmse",
    "side_information_error",
    "decode_failures",
    "lost",
    "refused",
    "seconds",
)
log = logging.getLogger(__name__)

_KEPT = 2  # checkpoints: if one is damaged, there is that before it


@dataclass(frozen=True)
class PartialRun:
    """Writes and reads the files of a run that is not finished.

    Attributes:
        folder: where it will be when it is finished.
        environment: on what it is carried out, the code included.
        checkpoint_every: rounds between checkpoints; None: there are none.
    """

    folder: RunFolder
    environment: Mapping[str, Any]
    checkpoint_every: int | None = None

    @property
    def path(self) -> Path:
        return self.folder.partial

    def begin(self, config: Mapping[str, Any], state: State) -> None:
        """Starts the run's files, or goes on with those of a killed run, whose state `state` becomes.

        It goes on only where code, versions and hardware are what they were, so that the rounds to come are
        what they would have been; else the files are removed. Settings are the same, as the folder's id says.
        """
        with _writing(self.path):
            if not self._resume(state):
                shutil.rmtree(self.path, ignore_errors=True)
                self.path.mkdir()
                _write_csv(self.path / ROUNDS, COLUMNS, [])
                _write_csv(self.path / CLIENTS, CLIENT_COLUMNS, [])
            described = yaml.safe_dump(dict(config), sort_keys=False)
            (self.path / CONFIG).write_text(described)

    def record(
        self, records: Iterable[Mapping[str, Any]], state: State
    ) -> Iterator[Mapping[str, Any]]:
        """Passes the records on, each written to rounds.csv and clients.csv.gz before.

        Every `checkpoint_every` rounds `state`, which is that after the record, is written as well.
        """
        with _writing(self.path):
            rounds = _opened(self.path / ROUNDS, "at")
            clients = _opened(self.path / CLIENTS, "at")
        try:
            for record in records:
                with _writing(self.path):
                    self._write(record, rounds, clients, state)
                yield record
        finally:
            with _writing(self.path), rounds, clients:
                pass  # which closes both

    def _write(self, record: Mapping[str, Any], rounds: Any, clients: Any, state: State) -> None:
        _rows(rounds, COLUMNS, [record])
        _rows(clients, CLIENT_COLUMNS, record["clients"])
        rounds.flush()
        if self.checkpoint_every and record["round"] % self.checkpoint_every == 0:
            clients.flush()
            self._keep(state)

    def rounds(self) -> list[dict[str, float]]:
        """Reads the rounds that are written, a record each."""
        return cast(list[dict[str, float]], load_rounds(self.path).to_dict("records"))

    def seconds(self) -> float:
        """Sums up the seconds that the rounds took which are written."""
        return float(load_rounds(self.path).seconds.sum())

    def finish(self, metadata: Mapping[str, Any]) -> None:
        """Makes the run a finished one."""
        described = dict(metadata) | {"environment": dict(self.environment)}
        with _writing(self.path):
            (self.path / METADATA).write_text(json.dumps(described, indent=2) + "\n")
            os.replace(self.path, self.folder.path)  # first: until then checkpoints are needed
            for pattern in ("round_*", "partial.*"):  # the latter of processes that were killed
                for path in self.folder.path.glob(pattern):
                    path.unlink()

    def _keep(self, state: State) -> None:
        contents = {"environment": dict(self.environment), "state": state.contents()}
        checkpoint.save(self.path / f"round_{state.round}.safetensors", contents)
        for _, path in self._checkpoints()[_KEPT:]:
            path.unlink()

    def _resume(self, state: State) -> bool:
        """Takes `state` and tables back to the latest checkpoint that is usable; False if there is none."""
        for round, path in self._checkpoints():
            try:
                contents = checkpoint.load(path, state.server.weights.device)
                if changed := self._changed(contents["environment"]):
                    log.warning(
                        "run %s starts anew: %s changed", self.folder.id, ", ".join(changed)
                    )
                    return False
                tables = [
                    _until(round, self.path / ROUNDS, COLUMNS),
                    _until(round, self.path / CLIENTS, CLIENT_COLUMNS),
                ]
            except (checkpoint.Unusable, _Incomplete):
                path.unlink()
                continue
            state.restore(contents["state"])
            _write_csv(self.path / ROUNDS, COLUMNS, tables[0])
            _write_csv(self.path / CLIENTS, CLIENT_COLUMNS, tables[1])
            return True
        return False

    def _changed(self, before: Mapping[str, Any]) -> list[str]:
        """Names what is not as it was; a commit that leaves the package's files alone changes nothing."""
        now = self.environment
        keys = (before.keys() | now.keys()) - {"git_commit"}
        return sorted(key for key in keys if before.get(key) != now.get(key))

    def _checkpoints(self) -> list[tuple[int, Path]]:
        """Lists the checkpoints with their rounds, the latest first."""
        paths = self.path.glob("round_*.safetensors")
        return sorted(((int(path.stem.split("_")[1]), path) for path in paths), reverse=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns a write that fails into an InputError that says what to do."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"results can not be written to {path} ({error.strerror}); make room there, or choose another"
            " folder with results_dir=...; the same command then goes on from the last checkpoint"
        ) from error


class _Incomplete(Exception):
    """A table lacks rows or columns."""


def _until(round: int, path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Reads a table's rows up to a round, from a file that may break off after them."""
    rows, last = [], 0
    try:
        with _opened(path, "rt") as file:
            reader = csv.DictReader(file)
            if list(reader.fieldnames or []) != list(columns):
                raise _Incomplete(path)
            for row in reader:
                # The last row may be torn, its number too.
                if None in row.values() or not last <= int(row["round"]) <= round:
                    break
                last = int(row["round"])
                rows.append(row)
    except (OSError, EOFError, ValueError, zlib.error):
        pass
    if last < round:
        raise _Incomplete(path)
    return rows


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a whole table; if that fails, what was there before stays."""
    with replacing(path) as partial, _opened(partial, "wt") as file:
        csv.DictWriter(file, list(columns)).writeheader()
        _rows(file, columns, rows)


def _rows(file: Any, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.DictWriter(file, list(columns))
    writer.writerows({key: _cell(row[key]) for key in columns} for row in rows)


def _opened(path: Path, mode: str) -> Any:
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, mode, newline="")


def _cell(value: Any) -> Any:
    # 17 digits bring a float back exactly; an empty cell is a round without evaluation.
    if isinstance(value, float):
        return "" if value != value else repr(value)
    return value
