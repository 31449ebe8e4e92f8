"""What a report says of sweeps over channels that lose payloads."""

import pandas as pd

from wzfl import markdown
from wzfl.intervals import mean_interval
from wzfl.plots import in_order, label


def fault_section(runs: pd.DataFrame) -> str:
    """What accuracy is left by share of payloads that are lost."""
    rows = []
    for name in in_order(runs.compressor):
        own = runs[runs.compressor == name]
        row = {"compressor": label(name), "bits": f"{own.measured_bitrate.mean():.3g}"}
        for loss in sorted(own.loss.unique()):
            row[f"{100 * loss:g} % lost"] = _ranged(own.final_accuracy[own.loss == loss])
        row |= {
            "points lost": _points(own),
            "client memory": markdown.floats(own.client_floats.iloc[0]),
        }
        rows.append(row)
    seeds = runs.seed.nunique()
    return (
        f"Final test accuracy, means over {seeds} seeds (95 % bootstrap interval), by share of payloads"
        " that do not arrive. Who is lost when is the same for all compressors. Points lost are the mean over"
        " seeds of the difference between the first and the last column.\n\n"
        f"{markdown.table(pd.DataFrame(rows))}\n"
    )


def _ranged(values: pd.Series) -> str:
    low, high = mean_interval(values.to_numpy())
    return f"{values.mean():.4f} ({low:.4f} to {high:.4f})"


def _points(runs: pd.DataFrame) -> str:
    """Accuracy without loss less that with the most, of the same seed."""
    by_loss = runs.pivot_table("final_accuracy", "seed", "loss")
    return f"{100 * (by_loss.iloc[:, 0] - by_loss.iloc[:, -1]).mean():.2f}"
