"""How good the server's side information was, client by client, by the policy that it came from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wzfl.errors import InputError
from wzfl.reporting import markdown
from wzfl.reporting.intervals import COVERAGE, mean_interval
from wzfl.reporting.report import figures_section, tables_report
from wzfl.reporting.summary import LAST_ROUNDS, decibel
from wzfl.results import SweepFolder, load_clients, load_config
from wzfl.tables import read_table, save_table

_INTRODUCTION = f"""\
Its error is |side information − update|² / |update|², the mean over clients and the last ten rounds, \
in dB; 0 dB is that of expecting nothing. Cosines are those of side information and update. Coded alone \
are payloads of clients without side information, or whose side information was no help. The scale of a \
client is what it coded its residual for; its median over the residual's true RMS, and the range that \
nine in ten are in: below 1 the code is overrun. Failed are payloads whose decoder noticed. All policies \
of a setting share seeds, partition, batches and initial weights. Intervals are {COVERAGE}.
"""
# Of all settings of a results folder, from which the figure can be drawn where runs are not at hand.
HISTORY = "history.csv"
_MEANS = ["side_information_error", "cosine", "scale_ratio", "age"]


def load_history(results_dir: Path, sweep: str) -> pd.DataFrame:
    """The clients.csv.gz of a sweep's runs, with `policy` and `seed`; one run for each of these.

    `scale_ratio` is the scale of a client over its true residual RMS; NaN where it had none.
    """
    frames = []
    for id in SweepFolder(results_dir / "sweeps" / sweep).ids():
        path = results_dir / "runs" / id
        config = load_config(path)
        names = {"policy": config["names"]["side_information"], "seed": config["seed"]}
        frames.append(load_clients(path).assign(**names))
    if not frames:
        return pd.DataFrame()
    history = pd.concat(frames, ignore_index=True)
    history["scale_ratio"] = (history.scale / history.residual_rms).where(history.scale > 0)
    return history


def rounds_of(history: pd.DataFrame) -> pd.DataFrame:
    """A row per policy, seed and round: means over clients, and how many failed."""
    by_round = history.groupby(["policy", "seed", "round"])
    return by_round[_MEANS].mean().assign(failed=by_round.failed.sum()).reset_index()


def save_rounds(results_dir: Path, rounds: Mapping[str, pd.DataFrame]) -> None:
    """Writes frames of `rounds_of`, by title."""
    tables = [own.assign(setting=title) for title, own in rounds.items()]
    save_table(pd.concat(tables), results_dir / HISTORY)


def load_history_rounds(results_dir: Path) -> dict[str, pd.DataFrame]:
    """What `save_rounds` has written; empty where that is not there.

    Raises:
        InputError: the table lacks columns, or is damaged.
    """
    path = results_dir / HISTORY
    if not path.is_file():
        return {}
    table = read_table(path)
    if missing := {"setting", "policy", "seed", "round", *_MEANS} - set(table.columns):
        raise InputError(
            f"{path} lacks the columns {sorted(missing)}; run `make correlation` again"
        )
    return {str(title): own for title, own in table.groupby("setting", sort=False)}


def correlation_report(
    settings: Mapping[str, pd.DataFrame],
    runs: pd.DataFrame,
    skipped: Mapping[str, str],
    figures: Sequence[str],
    command: str,
) -> str:
    """Markdown, from the frames of `load_history` by title, and the runs of `wzfl.reporting.summary`."""
    tables = {title: _table(history) for title, history in settings.items()}
    text = tables_report(
        "Side information by policy", _INTRODUCTION, tables, runs, skipped, command
    )
    return f"{text}\n{figures_section(figures)}"


def _table(history: pd.DataFrame) -> str:
    """A row per policy, of the last ten rounds."""
    last = history[history["round"] > history["round"].max() - LAST_ROUNDS]
    rows = []
    for policy, own in last.groupby("policy"):
        errors = own.groupby(["seed", "round"]).side_information_error.mean()
        by_seed = decibel(errors.groupby("seed").mean())
        rows.append(
            {
                "side information": policy,
                "its error in dB": f"{by_seed.mean():.1f}",
                "interval": "{:.1f} to {:.1f}".format(*mean_interval(by_seed.to_numpy())),
                "cosine": markdown.number(own.cosine.mean(), ".3f"),
                "coded alone": f"{100 * (own.scale == 0).mean():.3g} %",
                "scale over residual's RMS": _quantiles(own.scale_ratio.dropna()),
                "failed": f"{100 * own.failed.mean():.2g} %",
            }
        )
    return markdown.table(pd.DataFrame(rows))


def _quantiles(ratios: pd.Series) -> str:
    """Median, and the range that nine in ten are in."""
    if ratios.empty:
        return "—"
    low, middle, high = np.quantile(ratios, [0.05, 0.5, 0.95])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
