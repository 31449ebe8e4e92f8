"""Which step size suits which compressor, from runs of a seed that no comparison uses."""

from collections.abc import Mapping

import pandas as pd

from wzfl.reporting import markdown
from wzfl.reporting.compressor_styles import in_order, label
from wzfl.reporting.report import tables_report
from wzfl.reporting.summary import LAST_ROUNDS, METHOD

_INTRODUCTION = """\
Training losses, the mean over the last ten rounds of one run, by the server's step size: the same few for \
every compressor and bitrate, on a seed that no comparison uses. The least, in bold, is what `lr_of` of the \
experiments named says; at an end of the row a better one may lie beyond it. Losses of runs that diverged \
are none.
"""


def tuning_losses(runs: pd.DataFrame, rounds: pd.DataFrame) -> pd.DataFrame:
    """Training losses of the last rounds: a row per compressor and bitrate, a column per step size.

    NaN where the run diverged.

    Args:
        runs, rounds: frames of `wzfl.reporting.summary.load_sweep`.
    """
    last = rounds.groupby("id").train_loss.apply(lambda losses: losses.tail(LAST_ROUNDS).mean())
    finite = runs[runs.diverged_in_round.isna()]
    losses = finite.assign(loss=finite.id.map(last)).pivot_table("loss", METHOD, "lr")
    methods = pd.MultiIndex.from_frame(runs[METHOD].drop_duplicates())
    table = losses.reindex(methods)
    order = {name: place for place, name in enumerate(in_order(runs.compressor))}
    return table.sort_index(key=lambda level: level.map(lambda value: order.get(value, value)))


def best_step_sizes(losses: pd.DataFrame) -> pd.Series:
    """The step size of least loss, by compressor and bitrate; none where all diverged."""
    return losses.dropna(how="all").idxmin(axis=1)


def tuning_report(
    settings: Mapping[str, pd.DataFrame],
    runs: pd.DataFrame,
    skipped: Mapping[str, str],
    command: str,
) -> str:
    """Markdown, from tables of `tuning_losses` by title, and all runs."""
    tables = {title: _table(losses) for title, losses in settings.items()}
    return tables_report("Step sizes", _INTRODUCTION, tables, runs, skipped, command)


def _table(losses: pd.DataFrame) -> str:
    best, rows = best_step_sizes(losses), []
    for method, own in zip(losses.index.tolist(), losses.to_dict("records"), strict=True):
        chosen = best.get(method)
        cells = {
            f"{lr:g}": f"**{_loss(loss)}**" if lr == chosen else _loss(loss)
            for lr, loss in own.items()
        }
        rows.append({"compressor": label(method[0]), "bitrate": f"{method[1]:g}"} | cells)
    return markdown.table(pd.DataFrame(rows))


def _loss(value: float) -> str:
    return markdown.number(value, ".4f" if value < 1000 else ".0e")
