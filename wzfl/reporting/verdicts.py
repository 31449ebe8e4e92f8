"""How the best codes with side information compare with the best rivals, in a line each."""

from typing import Any

import pandas as pd

from wzfl.reporting import markdown
from wzfl.reporting.intervals import BASELINE
from wzfl.reporting.summary import (
    Sweep,
    best_by_compressor,
    bits_to_target,
    informed,
    target_accuracy,
)


def bits_verdict(sweep: Sweep) -> str:
    """A line that compares bits to the target, each compressor at its best bitrate; and partial successes."""
    best = best_by_compressor(sweep.methods)
    best = best[best.compressor != BASELINE]
    ours, rivals = _contenders(best, informed(sweep.runs), "bits_to_target")
    if ours is None:
        return "No code with side information reached the target in every seed.\n"
    ratios = [
        f"{ours.bits_to_target / rival.bits_to_target:.2f} times those of"
        f" `{rival.compressor}`, the best {kind}"
        for kind, rival in rivals.items()
    ]
    needs = [f"{markdown.size(ours.bits_to_target)} to the target", *ratios, *_in_part(sweep, best)]
    return f"`{ours.compressor}` needs {'; '.join(needs)}.\n"


def _in_part(sweep: Sweep, best: pd.DataFrame) -> list[str]:
    """Rivals that reached the target in all seeds at no bitrate: in how many, and the mean bits of these."""
    bits = bits_to_target(sweep.rounds, target_accuracy(sweep.runs))
    rivals = best[best.bits_to_target.isna() & ~best.compressor.isin(informed(sweep.runs))]
    texts = []
    for name in rivals.compressor[rivals.reached > 0]:
        by_bitrate = bits[bits.compressor == name].groupby("bitrate")
        table = by_bitrate.agg(reached=("bits_to_target", "count"), mean=("bits_to_target", "mean"))
        most = table[table.reached == table.reached.max()]["mean"].min()
        seeds = f"{table.reached.max()} of {by_bitrate.seed.nunique().max()} seeds"
        texts.append(f"`{name}` reached it in {seeds}, {markdown.size(most)}")
    return texts


def loss_verdicts(methods: pd.DataFrame, with_side: set[str]) -> str:
    """Lines that compare losses above float32's by bitrate; `with_side` names codes with side information."""
    lines = []
    for bitrate, rows in methods.groupby("bitrate"):
        ours, rivals = _contenders(rows, with_side, "excess_loss")
        if ours is not None:
            best = {"with side information": ours} | rivals
            ends = [
                f"best {kind} `{row.compressor}`, {markdown.number(1e4 * row.excess_loss, '.3g')}"
                for kind, row in best.items()
            ]
            lines.append(f"- {bitrate:g} bit(s): {'; '.join(ends)}.")
    return "\n".join(lines)


def _contenders(rows: pd.DataFrame, with_side: set[str], column: str) -> tuple[Any, dict[str, Any]]:
    """The rows of least `column`: of codes with side information, and of rivals by kind."""

    def least(among: pd.DataFrame) -> Any:
        known = among.dropna(subset=column).sort_values(column)
        return known.iloc[0] if len(known) else None

    ours = rows.compressor.isin(with_side)
    kinds = {
        "without client memory": rows[~ours & (rows.client_floats == 0)],
        "with client memory": rows[~ours & (rows.client_floats > 0)],
    }
    rivals = {kind: least(among) for kind, among in kinds.items()}
    return least(rows[ours]), {kind: row for kind, row in rivals.items() if row is not None}
