"""What a report says of sweeps over a condition."""

import pandas as pd

from wzfl.reporting import markdown
from wzfl.reporting.compressor_styles import in_order, label
from wzfl.reporting.conditions import CONDITIONS, called, values_of
from wzfl.reporting.intervals import kind_of_interval, mean_interval, paired_difference
from wzfl.reporting.summary import informed


def condition_section(runs: pd.DataFrame, condition: str) -> str:
    """What accuracy is left, and what history is worth, by the values of a condition."""
    seeds, name, ordered = runs.seed.nunique(), CONDITIONS[condition], _ordered(runs, condition)
    text = (
        f"{_setting(runs, condition)}\n\n"
        f"Final test accuracy by {name}, means over {seeds} seeds and their {kind_of_interval(seeds)}."
        f"{_CHANGE if ordered else ''}\n\n{markdown.table(_accuracies(runs, condition))}\n"
    )
    errors = _history(runs[runs.compressor.isin(informed(runs))], condition)
    if len(errors):
        text += f"\nHistory's error, by {name}:\n\n{markdown.table(errors)}\n"
    return text


# By their column of runs.csv, what a setting is told by.
_SETTING = {
    "dataset": "data set {}",
    "partition": "partition {}",
    "model": "model {}",
    "client": "client {}",
    "clients": "{} clients",
    "clients_per_round": "{} in a round",
    "rounds": "{} rounds",
    "lr": "step size {}",
    "batch_size": "batches of {}",
    "epochs": "{} local epochs",
}
_CHANGE = """ \
The change is from the first to the last value, in points, with Student's 95 % interval over seeds; \
**bold** where that leaves 0 out."""


def _setting(runs: pd.DataFrame, condition: str) -> str:
    """A line with the values of all that is not varied on purpose, as far as the table has it."""
    parts = []
    for column, text in _SETTING.items():
        if column in runs and column != condition:
            values = values_of(runs.dropna(subset=column), column)
            parts += [text.format(", ".join(map(called, values)))] if values else []
    return f"Setting: {'; '.join(parts)}."


def _accuracies(runs: pd.DataFrame, condition: str) -> pd.DataFrame:
    rows = []
    for name in in_order(runs.compressor):
        own = runs[runs.compressor == name]
        row = {"compressor": label(name), "bits": f"{own.measured_bitrate.mean():.3g}"}
        for value in values_of(runs, condition):
            row[called(value)] = _ranged(own.final_accuracy[own[condition] == value])
        if _ordered(runs, condition):
            row["change"] = _change(own, condition)
        rows.append(row | {"client memory": markdown.floats(own.client_floats.iloc[0])})
    return pd.DataFrame(rows)


def _history(runs: pd.DataFrame, condition: str) -> pd.DataFrame:
    """A row per code with side information: how far off that was, over the last rounds."""
    rows = []
    for name in in_order(runs.compressor):
        own = runs[runs.compressor == name].groupby(condition).side_information_error.mean()
        cells = {called(value): markdown.number(error, ".3g") for value, error in own.items()}
        rows.append({"compressor": label(name)} | cells)
    return pd.DataFrame(rows)


def _ordered(runs: pd.DataFrame, condition: str) -> bool:
    """Whether there is a first value and a last, as there is of numbers."""
    return pd.api.types.is_numeric_dtype(runs[condition])


def _ranged(values: pd.Series) -> str:
    if values.empty:
        return "—"
    if diverged := int(values.isna().sum()):
        return f"{diverged} of {len(values)} diverged"
    low, high = mean_interval(values.to_numpy())
    return f"{values.mean():.4f} ({low:.4f} to {high:.4f})"


def _change(runs: pd.DataFrame, condition: str) -> str:
    """Accuracy under the last value less that under the first, of the same seed."""
    accuracies = 100 * runs.pivot_table("final_accuracy", "seed", condition)
    if accuracies.shape[1] < 2 or runs.final_accuracy.isna().any():
        return "—"
    return markdown.difference(paired_difference(accuracies.iloc[:, -1], accuracies.iloc[:, 0]))
