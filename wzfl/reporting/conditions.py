"""What an experiment may vary besides compressor, bitrate and seed."""

from typing import Any

import pandas as pd

# By their column of runs.csv, what figures and tables call them.
CONDITIONS = {
    "loss": "share of payloads lost",
    "clients": "number of clients",
    "clients_per_round": "clients in a round",
    "batch_size": "examples in a batch",
    "epochs": "local epochs",
    "side_information": "side information",
}


def heading(title: str, condition: str) -> str:
    """What is varied, and then the setting, which several sweeps may share."""
    return f"{CONDITIONS[condition].capitalize()}: {title}"


def values_of(runs: pd.DataFrame, condition: str) -> list[Any]:
    """The values under which there are runs, in order."""
    return sorted(runs[condition].unique())


def called(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
