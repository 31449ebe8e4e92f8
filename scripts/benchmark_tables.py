"""What benchmarks measured, as tables and a figure."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from benchmark_codecs import COMPRESSORS
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wzfl.reporting.compressor_styles import in_order, label, look
from wzfl.reporting.figures import style
from wzfl.reporting.markdown import generated_by, values

PEERS = ("fedjax", "pfl", "flower")
DESCRIPTIONS = {  # of the workloads of benchmark_rounds.py, in the order of tables
    "w1_mlp": "FedAvg, MLP: 10 of 100 clients, 600 examples each, one epoch, batches of 20",
    "w1_cnn": "FedAvg, CNN: the same",
    "w2_mlp": "FedSGD, MLP: 20 clients, one gradient each on 64 examples",
    "w2_cnn": "FedSGD, CNN: the same",
}
# Sizes from which on fixed costs and caches no longer matter.
LARGE = {"clients": 30, "cnn_clients": 10, "dimension": 10**7}


def summary(folder: Path) -> str:
    """Medians and ratios of what has been measured, as Markdown."""
    parts = [
        "# Speed\n",
        generated_by("make benchmark"),
        "Medians; seconds of every repetition are in the CSV files.\n",
    ]
    tables = {
        "rounds": round_table,
        "evaluation": evaluation_table,
        "compressed": compressed_table,
        "codecs": codec_table,
        "rates": rate_table,
        "growth": growth_table,
        "memory": memory_table,
    }
    for part, table in tables.items():
        path = folder / f"{part}.csv"
        if path.is_file():
            rows = pd.read_csv(path, keep_default_na=False)
            title, frame = table(rows)
            where = f"{values(rows.machine)}, commit {values(rows.commit)}.\n"
            parts += [f"## {title}\n", where, frame.to_markdown(index=False, floatfmt=".4g"), ""]
    return "\n".join(parts)


def round_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    low, times, high = (quantiles(table, q) for q in (0.25, 0.5, 0.75))
    frame = pd.DataFrame({"work": [DESCRIPTIONS[name] for name in times.index]})
    for system in ("wzfl", *PEERS):
        if system in times:
            frame[f"{system} ms"] = [
                f"{m:.0f} ({a:.0f}-{b:.0f})"
                for m, a, b in zip(times[system], low[system], high[system], strict=True)
            ]
    others = [system for system in PEERS if system in times]
    if others:
        fastest = times[others].min(axis=1)
        frame["wzfl / fastest other"] = (times["wzfl"] / fastest).round(2).tolist()
    return "A round without compression, median (quartiles)", frame


def quantiles(table: pd.DataFrame, q: float) -> pd.DataFrame:
    """Milliseconds by workload, in the order of `DESCRIPTIONS`, and system."""
    of = partial(pd.Series.quantile, q=q)
    found = table.pivot_table("seconds", "workload", "system", aggfunc=of)
    return 1000 * found.reindex([name for name in DESCRIPTIONS if name in found.index])


def evaluation_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    times = 1000 * table.pivot_table("seconds", "workload", "what", aggfunc="median")
    times = times.reindex([name for name in DESCRIPTIONS if name in times.index])
    frame = pd.DataFrame(
        {
            "work": [DESCRIPTIONS[name] for name in times.index],
            "round ms": times["round"].round(1).tolist(),
            "evaluation ms": times.evaluation.round(1).tolist(),
            "evaluation / round": (times.evaluation / times["round"]).round(2).tolist(),
        }
    )
    return "An evaluation on 10 000 images beside a round without compression", frame


def compressed_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    times = table.pivot_table("seconds", "compressor", "workload", aggfunc="median")
    times = times.loc[["none", *COMPRESSORS]]
    frame = pd.DataFrame({"compressor": times.index})
    for workload in (name for name in DESCRIPTIONS if name in times):
        name = DESCRIPTIONS[workload].partition(":")[0]
        frame[f"{name}, ms"] = (1000 * times[workload]).round().astype(int).tolist()
        frame[f"{name}, ratio"] = (times[workload] / times[workload]["none"]).round(2).tolist()
    return "A round at 2 bits per coordinate, real bytes both ways, and its ratio to float32", frame


def codec_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    speeds = table.pivot_table(
        "gb_per_second", "compressor", ["dim", "direction"], aggfunc="median"
    )
    others = [name for name in speeds.index if name not in ("copy", *COMPRESSORS)]
    speeds = speeds.loc[["copy", *COMPRESSORS, *others]]
    frame = pd.DataFrame({"compressor": speeds.index})
    for dim, clients in (
        table[["dim", "clients"]].drop_duplicates().dropna().itertuples(index=False)
    ):
        for direction in ("encode", "decode"):
            if (dim, direction) in speeds:
                name = f"{direction}, {clients} clients x 2^{dim.bit_length() - 1}"
                frame[name] = speeds[(dim, direction)].tolist()
    return "Codecs at 2 bits per coordinate, GB of float32 per second", frame


def rate_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    table = table[table.compressor != "copy"]
    table = table.assign(ns=1e9 * table.seconds / (table.dim * table.clients))
    medians = table.pivot_table("ns", ["compressor", "bitrate"], "direction", aggfunc="median")
    both = [f"{each.encode:.1f} / {each.decode:.1f}" for each in medians.itertuples()]
    frame = medians.assign(both=both).pivot_table("both", "compressor", "bitrate", aggfunc="first")
    frame.columns = [f"{bitrate:g}" for bitrate in frame]
    dims = ", ".join(str(dim) for dim in table.dim.unique())
    title = (
        f"Encoding / decoding one of {dims} coordinates on one core, nanoseconds, by bits for each"
    )
    return title, frame.fillna("").reset_index()


def growth_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    rows = []
    for (what, compressor, precision, capacity), points in table.groupby(
        ["what", "compressor", "precision", "capacity"], sort=False
    ):
        medians = points.groupby("size")[["seconds", "peak_memory_bytes"]].median()
        largest = medians.index.max()
        rows.append(
            {
                "what grows": str(what).replace("_", " "),
                "to": largest,
                "compressor": compressor,
                "memory of a client": precision
                if compressor == "wyner_ziv" and what != "dimension"
                else "",
                "clients remembered": int(float(str(capacity))) if capacity else "",
                "s": round(float(medians.seconds[largest]), 3),
                "exponent of time": round(exponent(medians, str(what)), 2) if what in LARGE else "",
                "peak memory, GiB": round(float(medians.peak_memory_bytes[largest]) / 2**30, 2),
            }
        )
    return "Growth: time of a step and peak memory of its process", pd.DataFrame(rows)


def exponent(medians: pd.DataFrame, what: str) -> float:
    """The slope of log seconds over log size, of large sizes."""
    large = medians[medians.index >= LARGE[what]]
    return float(np.polyfit(np.log(large.index.to_numpy(float)), np.log(large.seconds), 1)[0])


def growth_figure(table: pd.DataFrame) -> Figure:
    """Seconds against clients and dimension, peak memory against population; log-log."""
    style()
    figure, (clients, dimension, population) = plt.subplots(
        1, 3, figsize=(11, 3.6), layout="constrained"
    )
    for axes, what, xlabel in (
        (clients, "clients", "clients in a round of the MLP"),
        (dimension, "dimension", "dimension (two clients)"),
    ):
        points = table[table.what == what]
        for name in in_order(points.compressor):
            medians = points[points.compressor == name].groupby("size")[["seconds"]].median()
            text = f"{label(name)}, exponent {exponent(medians, what):.2f}"
            axes.plot(medians.index, medians.seconds, label=text, markersize=4, **look(name))
        _log_log(axes, xlabel, "seconds")
    points = table[table.what == "population"].fillna({"capacity": ""})
    for (precision, capacity), some in points.groupby(["precision", "capacity"], sort=False):
        peaks = some.groupby("size").peak_memory_bytes.median() / 2**30
        text = str(precision) + (f", {int(float(str(capacity)))} remembered" if capacity else "")
        population.plot(peaks.index, peaks, marker="o", markersize=4, label=text)
    _log_log(population, "clients, one vector of 199 210 kept for each", "peak memory, GiB")
    return figure


def _log_log(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    axes.legend(fontsize=7)


def memory_table(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    groups = table.groupby(["precision", "capacity"], sort=False)
    frame = groups.agg(
        accuracy=("test_accuracy", "mean"),
        lowest=("test_accuracy", "min"),
        highest=("test_accuracy", "max"),
        error=("side_information_error", "mean"),
        seeds=("seed", "count"),
    ).reset_index()
    frame["capacity"] = [int(float(each)) if each else "all" for each in frame.capacity]
    frame.columns = [
        "memory of a client",
        "clients remembered of 40",
        "final accuracy",
        "lowest",
        "highest",
        "history's error",
        "seeds",
    ]
    return "Accuracy when the server remembers less: wyner_ziv with `last`, 1 bit, by class", frame
