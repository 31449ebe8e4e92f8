"""What a report says of sweeps that compare errors of updates."""

from math import sqrt

import numpy as np
import pandas as pd

from wzfl.reporting import markdown
from wzfl.reporting.compressor_styles import in_order, label
from wzfl.reporting.intervals import BASELINE
from wzfl.reporting.summary import decibel, informed


def error_section(runs: pd.DataFrame) -> str:
    """Tables of a sweep's errors, and how far compressors with side information are from those without."""
    swept = runs[runs.compressor != BASELINE].assign(error_db=decibel(runs.error))
    return f"{_verdicts(swept)}\n\n{markdown.table(_table(swept))}\n"


def _table(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per compressor and bitrate."""
    rows = []
    for bitrate in sorted(runs.bitrate.unique()):
        for name in in_order(runs.compressor):
            own = runs[(runs.compressor == name) & (runs.bitrate == bitrate)]
            if own.empty:
                continue
            side = own.side_information.iloc[0]
            rows.append(
                {
                    "compressor": label(name),
                    "side information": "none" if side == "zero" else side,
                    "bitrate": markdown.number(bitrate),
                    "measured": f"{own.measured_bitrate.mean():.4g}",
                    "error in dB": _mean(own.error_db),
                    "history's error in dB": _mean(decibel(own.side_information_error)),
                    "failed": f"{100 * own.failures.mean():.2g} %",
                    "final training loss": f"{own.final_train_loss.mean():.4f}",
                    "seeds": len(own),
                    "client memory": markdown.floats(own.client_floats.iloc[0]),
                }
            )
    return pd.DataFrame(rows)


def _verdicts(runs: pd.DataFrame) -> str:
    """Lines that compare each compressor with side information and the best of those without, by bitrate."""
    with_side = informed(runs)
    plain = set(runs.compressor[runs.client_floats == 0]) - with_side
    lines = []
    for bitrate, own in runs.groupby("bitrate"):
        errors = own.pivot_table("error_db", "seed", "compressor")
        rivals = errors[[name for name in errors.columns if name in plain]].mean()
        best = str(rivals.idxmin()) if len(rivals) else ""
        against = [name for name in dict.fromkeys([best, "eden"]) if name in errors.columns]
        for name in in_order(with_side):
            if name in errors.columns and against:
                distances = [_distance(errors[name] - errors[rival], rival) for rival in against]
                lines.append(f"- `{name}` at {bitrate:g} bits: {', '.join(distances)}.")
    return "\n".join(lines)


def _distance(differences: pd.Series, rival: str) -> str:
    """How far below or above a rival, from `differences` in dB by seed."""
    below = differences.mean() < 0
    size = _mean(-differences.dropna() if below else differences.dropna())
    return f"{size} dB {'below' if below else 'above'} `{rival}`"


def _mean(values: pd.Series) -> str:
    """The mean and its standard error, as text."""
    if len(values) < 2:
        return f"{values.mean():.1f}"
    return f"{values.mean():.1f} ± {np.std(values, ddof=1) / sqrt(len(values)):.1f}"
