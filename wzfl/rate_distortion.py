"""Compressors on vectors, without training: bits and errors of one codec, and the table of all."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wzfl.compressors import Compressor, SideInformed
from wzfl.decoding import decode
from wzfl.errors import InputError
from wzfl.metrics import mean_energy_ratio, relative_error
from wzfl.public import Public, stable_seed
from wzfl.results import locked
from wzfl.sources import Source
from wzfl.tables import read_table, save_table
from wzfl.theory import gap_db

# A measurement replaces an earlier one that agrees in these.
KEY = ["source", "snr_db", "dim", "clients", "compressor", "bitrate", "seed"]
COLUMNS = [
    *KEY,
    "draws",
    "bits_per_coordinate",
    "nmse",
    "nmse_of_mean",
    "side_information_error",
    "limit",
    "gap_db",
    "encode_seconds",
    "decode_seconds",
    "decode_failures",
]


class _Trial(NamedTuple):
    """Measurements of one draw: arrays hold one number per vector.

    Attributes:
        limit_ratio: |estimate - update|**2 over the energy that the limit starts from.
        decode_failures: vectors that failed their decoder's check.
    """

    bits_per_coordinate: np.ndarray
    nmse: float
    nmse_of_mean: float
    side_information_error: float
    limit_ratio: float
    encode_seconds: np.ndarray
    decode_seconds: np.ndarray
    decode_failures: int


def measure(compressor: Compressor, source: Source, draws: int, seed: int) -> dict[str, Any]:
    """Measures a row of the table, but for the compressor's name.

    Every client encodes alone. A decoder with side information is given an oracle's scale, the true RMS
    of update - side, so that the code is measured and not the plan of a server; all others get none.
    Client memory stays empty, as in the first round.

    Raises:
        InputError: the compressor sends votes, which have no magnitude to compare; or the compressor
            can not encode such vectors at its bitrate.
    """
    if draws < 1:
        raise InputError(f"draws must be at least 1; got {draws}")
    if compressor.aggregation == "majority_vote":
        raise InputError(
            f"{type(compressor).__name__} decodes to votes without a magnitude, whose squared error"
            " says nothing; measure a compressor that is aggregated by the mean"
        )
    trials = []
    for draw in range(draws):
        updates, side = source.draw(stable_seed("rate distortion", seed, draw))
        trials.append(_trial(compressor, updates, side, seed, draw))
    clients, dim = updates.shape
    bits = float(np.mean([trial.bits_per_coordinate for trial in trials]))
    ratio = float(np.mean([trial.limit_ratio for trial in trials]))
    return {
        "source": source.name,
        "snr_db": np.nan if source.snr_db is None else float(source.snr_db),
        "dim": dim,
        "clients": clients,
        "bitrate": float(compressor.bitrate),
        "seed": seed,
        "draws": draws,
        "bits_per_coordinate": bits,
        "nmse": float(np.mean([trial.nmse for trial in trials])),
        "nmse_of_mean": float(np.mean([trial.nmse_of_mean for trial in trials])),
        "side_information_error": float(np.mean([t.side_information_error for t in trials])),
        "limit": "wyner_ziv" if isinstance(compressor, SideInformed) else "shannon",
        # float32 as it is has no error, and vectors of finite precision no such limit.
        "gap_db": gap_db(ratio, bits) if ratio > 0 else np.nan,
        "encode_seconds": float(np.median([trial.encode_seconds for trial in trials])),
        "decode_seconds": float(np.median([trial.decode_seconds for trial in trials])),
        "decode_failures": sum(trial.decode_failures for trial in trials),
    }


def merge_row(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a row to the table, or replaces that of the same `KEY`; rows stay sorted.

    Processes take turns, and a killed one leaves the table as it was before or after.

    Raises:
        InputError: the table can not be written.
    """
    with locked(path.with_name(f"{path.name}.lock")):
        table = pd.DataFrame([row], columns=COLUMNS)
        if path.is_file():
            # An empty frame would turn numbers into objects.
            table = pd.concat([load_table(path), table])
        table = table.drop_duplicates(KEY, keep="last").sort_values(KEY)
        save_table(table, path)


def load_table(path: Path) -> pd.DataFrame:
    """Reads the table that `merge_row` has written."""
    return read_table(path).reindex(columns=COLUMNS)


def _trial(compressor: Compressor, updates: Tensor, side: Tensor, seed: int, draw: int) -> _Trial:
    clients, dim = updates.shape
    informed = isinstance(compressor, SideInformed)
    residuals = (updates - side).double().square().sum(dim=1)
    scale = (residuals / dim).sqrt() if informed else torch.zeros(clients)
    public = Public(seed, draw + 1, tuple(range(clients)), scale)
    estimates, bits, encode_seconds, decode_seconds, failures = [], [], [], [], 0
    for row in range(clients):
        alone = public.rows(slice(row, row + 1))
        start = time.perf_counter()
        payloads = compressor.encode(updates[[row]], alone)
        encoded = time.perf_counter()
        estimate, failed = decode(compressor, payloads, side[[row]], alone)
        estimates.append(estimate)
        failures += int(failed)
        decode_seconds.append(time.perf_counter() - encoded)
        encode_seconds.append(encoded - start)
        bits.append(8 * len(payloads[0]) / dim)
    decoded = torch.cat(estimates)
    return _Trial(
        np.array(bits),
        relative_error(decoded, updates),
        _error_of_mean(decoded, updates),
        relative_error(side, updates),
        mean_energy_ratio(decoded - updates, updates - side if informed else updates),
        np.array(encode_seconds),
        np.array(decode_seconds),
        failures,
    )


def _error_of_mean(estimates: Tensor, updates: Tensor) -> float:
    """Computes |mean estimate - mean update|**2 / mean |update|**2, as DRIVE and EDEN report it.

    It is relative to the clients' energy, not to that of their mean, which may cancel. NaN for zero updates.
    """
    error = (estimates.double() - updates.double()).mean(dim=0).square().sum()
    return float(error / updates.double().square().sum(dim=1).mean())
