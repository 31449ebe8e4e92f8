"""From finished runs to tables: tidy frames in, tidy frames out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from wzfl.reporting.intervals import BASELINE, mean_interval
from wzfl.results import SweepFolder, load_config, load_metadata, load_rounds
from wzfl.tables import read_table, save_table

# What tells settings of a comparison apart, besides the seed.
METHOD = ["compressor", "bitrate"]
ONE_POINT = 0.01
LAST_ROUNDS = 10  # over which errors are averaged
_SETTINGS = [
    *("dataset", "partition", "model", "client", "server", "side_information", "channel", "loss"),
    *("batch_size", "epochs", "lr", "clients", "clients_per_round", "rounds"),
]  # besides these, columns that say how a run was trained
_COUNTS = ["batch_size", "epochs", "diverged_in_round"]  # of which a run may have none
# All runs and rounds of a results folder, from which reports can be drawn where runs are not at hand.
RUNS, ALL_ROUNDS = "runs.csv", "rounds.csv.gz"


# What an experiment's part of a report is about, as conf/reproduce.yaml explains.
Shows = Literal["accuracy", "loss", "error", "conditions", "correlation", "step sizes", "reference"]


@dataclass(frozen=True, eq=False)
class Sweep:
    """A finished sweep.

    Attributes:
        name: its experiment's name.
        title: one line that says what was trained.
        runs, rounds, methods: frames of `load_sweep` and `methods`.
        shows: what its section is about.
        varies: the condition that "conditions" is about, a key of `wzfl.reporting.conditions.CONDITIONS`.
    """

    name: str
    title: str
    runs: pd.DataFrame
    rounds: pd.DataFrame
    methods: pd.DataFrame
    shows: Shows
    varies: str = ""


def load_sweep(results_dir: Path, sweep: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A sweep's runs, one per row, and their rounds with the run's `compressor`, `bitrate`, `seed`.

    Rounds gain `uplink_per_client`: bits sent since the start, divided by the number of clients. Where no
    run is at hand, both are those of `load_tables`.
    """
    ids = SweepFolder(results_dir / "sweeps" / sweep).ids()
    if not ids:
        return load_tables(results_dir, sweep)
    runs, rounds = [], []
    for id in ids:
        path = results_dir / "runs" / id
        record = load_rounds(path)
        run = _run(id, sweep, path, record)
        record["uplink_per_client"] = record["uplink_bits"].cumsum() / run["clients"]
        keys = {key: run[key] for key in ("sweep", "id", *METHOD, "seed")}
        rounds.append(record.assign(**keys))
        runs.append(run)
    frame = pd.DataFrame(runs).sort_values([*METHOD, "seed"], ignore_index=True)
    return frame, pd.concat(rounds, ignore_index=True)


def ambiguity(runs: pd.DataFrame, conditions: Sequence[str]) -> str:
    """Why runs can not be shown by compressor, bitrate, seed and conditions alone; empty where they can."""
    shown = [*METHOD, "seed", *conditions]
    several = runs[runs.duplicated(shown, keep=False)]
    if several.empty:
        return ""
    settings = [name for name in _SETTINGS if name in runs and name not in shown]
    values = several.groupby(shown, dropna=False)[settings].nunique(dropna=False)
    differ = values.columns[values.max() > 1]
    return (
        f"has {len(several)} runs that share compressor, bitrate and seed with others, and differ in"
        f" {', '.join(differ) or 'what tables do not have'}; sweep that under names of its own (sweep=...)"
    )


def save_tables(results_dir: Path, runs: pd.DataFrame, rounds: pd.DataFrame) -> None:
    """Writes runs.csv and rounds.csv.gz of all sweeps of a folder.

    Raises:
        InputError: they can not be written.
    """
    # 128, not 128.0, also where some runs have none.
    counts = dict.fromkeys(runs.columns.intersection(_COUNTS), "Int64")
    save_table(runs.astype(counts), results_dir / RUNS)
    save_table(rounds.drop(columns="seconds", errors="ignore"), results_dir / ALL_ROUNDS)


def load_tables(results_dir: Path, sweep: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What `save_tables` has written of a sweep's runs and rounds; empty where it is not there.

    Raises:
        InputError: a table is damaged.
    """
    paths = [results_dir / RUNS, results_dir / ALL_ROUNDS]
    if not all(path.is_file() for path in paths):
        return pd.DataFrame(), pd.DataFrame()
    tables = [read_table(path) for path in paths]
    runs, rounds = (table[table.sweep == sweep].reset_index(drop=True) for table in tables)
    return runs, rounds


def _run(id: str, sweep: str, path: Path, rounds: pd.DataFrame) -> dict[str, Any]:
    config = load_config(path)
    metadata = load_metadata(path)
    summary, environment = metadata["summary"], metadata["environment"]
    sent = len(rounds) * config["clients_per_round"] * summary["dim"]
    accuracy = rounds["test_accuracy"].dropna()
    diverged = summary["diverged_in_round"]
    return {
        "sweep": sweep,
        "id": id,
        **{"channel": "perfect"} | config["names"],  # a run names it where it is another
        "compressor": _called(config["names"]),
        "bitrate": summary["bitrate"],
        "measured_bitrate": rounds["uplink_bits"].sum() / sent if sent else float("nan"),
        "seed": config["seed"],
        "loss": config.get("channel", {}).get("loss", 0.0),
        "batch_size": config["client"].get("batch_size"),
        "epochs": config["client"].get("epochs"),
        "lr": config["server"]["optimizer"]["lr"],
        "clients": summary["population"],
        "clients_per_round": config["clients_per_round"],
        "dim": summary["dim"],
        "client_floats": summary["client_floats"],
        "rounds": len(rounds),
        "uplink_bits": rounds["uplink_bits"].sum(),
        "downlink_bits": rounds["downlink_bits"].sum(),
        # A run that diverged ends with weights of no use, whatever it had reached before.
        "final_accuracy": float("nan") if diverged or accuracy.empty else _final(accuracy),
        "final_train_loss": float("nan") if diverged else rounds["train_loss"].iloc[-1],
        "error": rounds["nmse"].tail(LAST_ROUNDS).mean(),
        "failures": rounds["decode_failures"].mean() / config["clients_per_round"],
        "side_information_error": rounds["side_information_error"].tail(LAST_ROUNDS).mean(),
        "diverged_in_round": diverged,
        "wall_seconds": summary["wall_seconds"],
        "git_commit": environment["git_commit"],
        "processor": environment["processor"],
        "device": environment["device"],
        "threads": environment["torch_threads"],
        "torch": environment["packages"]["torch"],
    }


def _called(names: dict[str, str]) -> str:
    """What tables and figures call a run's compressor; one with an oracle's scale is none to choose."""
    compressor = names["compressor"]
    return f"{compressor} (oracle)" if names["side_information"] == "oracle" else compressor


def informed(runs: pd.DataFrame) -> set[str]:
    """The compressors that were run with side information."""
    return set(runs.compressor[runs.side_information != "zero"])


def decibel(energies: pd.Series) -> pd.Series:
    return 10 * np.log10(energies.clip(lower=1e-30))


def sustained(accuracy: pd.Series) -> pd.Series:
    """Means of each evaluation of a run and those after it, a quarter of them all; NaN where fewer follow.

    A single evaluation says little of what a run has reached: at constant step sizes accuracy goes up and
    down by a point or more from one to the next.
    """
    window = ceil(len(accuracy) / 4)
    return accuracy.rolling(window).mean().shift(1 - window)


def _final(accuracy: pd.Series) -> float:
    """The last of `sustained`: the mean of the last quarter of a run's evaluations."""
    return float(sustained(accuracy).dropna().iloc[-1])


def target_accuracy(runs: pd.DataFrame) -> float:
    """One point below the mean final accuracy of float32 in the same sweep, or its worst seed's if lower.

    So all seeds of float32 reach it. Where they differ by more than a point, whether a method's seeds all
    reach one point below the mean would be a matter of luck.
    """
    final = runs.loc[runs.compressor == BASELINE, "final_accuracy"]
    return float(min(final.mean() - ONE_POINT, final.min()))


def bits_to_target(rounds: pd.DataFrame, target: float) -> pd.DataFrame:
    """Per run the uplink bits per client at the first evaluation whose `sustained` accuracy is the target's.

    Or more; NaN where none is. A run whose final accuracy is `target` or more has reached it.
    """
    evaluated = rounds.dropna(subset="test_accuracy")
    accuracy = evaluated.groupby("id").test_accuracy.transform(sustained)
    reached = evaluated[accuracy >= target].groupby("id").uplink_per_client.min()
    runs = rounds[["id", *METHOD, "seed"]].drop_duplicates()
    return runs.assign(bits_to_target=runs.id.map(reached))


def methods(runs: pd.DataFrame, rounds: pd.DataFrame) -> pd.DataFrame:
    """One row per compressor and bitrate: means over seeds, and their 95 % bootstrap intervals.

    `bits_to_target` is NaN unless every seed reached the target; `ratio` is float32's bits to target
    over it. `excess_loss` is the final training loss above float32's of the same seed.
    """
    target = target_accuracy(runs)
    joined = runs.merge(bits_to_target(rounds, target)[["id", "bits_to_target"]], on="id")
    joined["uplink_per_client"] = joined.uplink_bits / joined.clients
    baselines = runs[runs.compressor == BASELINE].set_index("seed").final_train_loss
    joined["excess_loss"] = joined.final_train_loss - joined.seed.map(
        baselines[~baselines.index.duplicated()]
    )
    grouped = joined.groupby(METHOD)
    table = grouped.agg(
        measured_bitrate=("measured_bitrate", "mean"),
        seeds=("seed", "nunique"),
        lr=("lr", "first"),
        client_floats=("client_floats", "first"),
        diverged=("diverged_in_round", "count"),
        accuracy=("final_accuracy", _strict_mean),
        accuracy_low=("final_accuracy", _low),
        accuracy_high=("final_accuracy", _high),
        train_loss=("final_train_loss", _strict_mean),
        train_loss_low=("final_train_loss", _low),
        train_loss_high=("final_train_loss", _high),
        excess_loss=("excess_loss", _strict_mean),
        excess_loss_low=("excess_loss", _low),
        excess_loss_high=("excess_loss", _high),
        error=("error", "mean"),
        failures=("failures", "mean"),
        side_information_error=("side_information_error", "mean"),
        uplink_per_client=("uplink_per_client", "mean"),
        bits_to_target=("bits_to_target", _strict_mean),
        reached=("bits_to_target", "count"),
        bits_to_target_low=("bits_to_target", _low),
        bits_to_target_high=("bits_to_target", _high),
    ).reset_index()
    baseline = table.loc[table.compressor == BASELINE, "bits_to_target"]
    table["ratio"] = (baseline.iloc[0] if len(baseline) else float("nan")) / table.bits_to_target
    final = table.loc[table.compressor == BASELINE, "accuracy"]
    table["within_one_point"] = table.accuracy >= final.max() - ONE_POINT
    return table


def best_by_compressor(table: pd.DataFrame) -> pd.DataFrame:
    """Per compressor: the bitrate of fewest bits to target, and from which one on all are within a point.

    `is_lowest`: the best bitrate is the lowest of several that were tried, and a lower one may be better.
    """
    rows = []
    for compressor, group in table.sort_values("bitrate").groupby("compressor"):
        reaching = group.dropna(subset="bits_to_target")
        best = reaching.iloc[reaching.bits_to_target.argmin()] if len(reaching) else None
        within = group.within_one_point[::-1].cummin()[::-1]
        rows.append(
            {
                "compressor": compressor,
                "best_bitrate": best.bitrate if best is not None else float("nan"),
                "is_lowest": best is not None and best.bitrate < group.bitrate.iloc[1:].min(),
                "accuracy": best.accuracy if best is not None else float("nan"),
                "bits_to_target": best.bits_to_target if best is not None else float("nan"),
                "ratio": best.ratio if best is not None else float("nan"),
                "lowest_bitrate_within_one_point": group.measured_bitrate[within].min(),
                "reached": group.reached.max(),
                "seeds": group.seeds.max(),
                "client_floats": group.client_floats.iloc[0],
            }
        )
    return pd.DataFrame(rows).sort_values("bits_to_target", ignore_index=True)


def _low(values: pd.Series) -> float:
    return _interval(values)[0]


def _high(values: pd.Series) -> float:
    return _interval(values)[1]


def _interval(values: pd.Series) -> tuple[float, float]:
    """Bounds of the mean's interval; NaN where the mean is."""
    if values.isna().any():
        return float("nan"), float("nan")
    low, high = mean_interval(values.to_numpy())
    return float(low), float(high)


def _strict_mean(values: Iterable[float]) -> float:
    """NaN if any is NaN: a method that fails for one seed has no mean."""
    return float(pd.Series(list(values)).mean(skipna=False))
