"""How the best codes with side information compare with the best rivals, in a line each."""

from typing import Any

import pandas as pd

from wzfl import markdown
from wzfl.summary import BASELINE, best_by_compressor

INFORMED = ("wyner_ziv", "slepian_wolf", "learned_slepian_wolf")  # codes with side information


def bits_verdict(methods: pd.DataFrame) -> str:
    """Of bits to the target, each compressor at its best bitrate."""
    best = best_by_compressor(methods)
    ours, rivals = _contenders(best[best.compressor != BASELINE], "bits_to_target")
    if ours is None:
        return "No code with side information reached the target.\n"
    ratios = [
        f"{ours.bits_to_target / rival.bits_to_target:.2f} times those of"
        f" `{rival.compressor}`, the best {kind}"
        for kind, rival in rivals.items()
    ]
    bits = markdown.size(ours.bits_to_target)
    return f"`{ours.compressor}` needs {'; '.join([f'{bits} to the target', *ratios])}.\n"


def loss_verdicts(methods: pd.DataFrame) -> str:
    """Of losses above float32's, a line per bitrate."""
    lines = []
    for bitrate, rows in methods.groupby("bitrate"):
        ours, rivals = _contenders(rows, "excess_loss")
        if ours is not None:
            best = {"with side information": ours} | rivals
            ends = [
                f"best {kind} `{row.compressor}`, {markdown.number(1e4 * row.excess_loss, '.3g')}"
                for kind, row in best.items()
            ]
            lines.append(f"- {bitrate:g} bit(s): {'; '.join(ends)}.")
    return "\n".join(lines)


def _contenders(rows: pd.DataFrame, column: str) -> tuple[Any, dict[str, Any]]:
    """The rows of least `column`: of codes with side information, and of rivals by kind."""

    def least(among: pd.DataFrame) -> Any:
        known = among.dropna(subset=column).sort_values(column)
        return known.iloc[0] if len(known) else None

    informed = rows.compressor.str.startswith(INFORMED)
    kinds = {
        "without client memory": rows[~informed & (rows.client_floats == 0)],
        "with client memory": rows[~informed & (rows.client_floats > 0)],
    }
    rivals = {kind: least(among) for kind, among in kinds.items()}
    return least(rows[informed]), {kind: row for kind, row in rivals.items() if row is not None}
