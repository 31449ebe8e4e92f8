"""How sure a mean over seeds is, and a difference between two compressors of the same seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap, false_discovery_control, ttest_1samp

BASELINE = "none"  # the compressor that others are compared with: float32
CONFIDENCE = 0.95
_RESAMPLES = 9999
_FEW = 3  # seeds of which the interval is the range
# What a report says of intervals. The range of n values, as likely above the mean as below it, has the mean
# in it unless all are on one side: 1 - 2**(1 - n).
COVERAGE = """\
95 % bootstrap intervals of the mean over seeds; of three seeds or fewer, the range over seeds. Of so few \
seeds both have the true mean in them less often than 19 times in 20: of Gaussian values the interval of \
five seeds 83 times in 100, the range of three 75 times, that of two 50 times"""


def kind_of_interval(seeds: int) -> str:
    """What `mean_interval` of so many seeds is called."""
    return "range" if seeds <= _FEW else f"{100 * CONFIDENCE:.0f} % bootstrap interval"


def mean_interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of the 95 % bootstrap interval of the mean along the first axis, over seeds.

    Percentiles of the means of resampled seeds, always the same ones. Of three seeds it is their range,
    since one resample in 27 repeats the least three times; of one, that one.
    """
    if len(values) < 2:
        return values.min(axis=0), values.max(axis=0)
    found = bootstrap(
        (values,), np.mean, axis=0, confidence_level=CONFIDENCE, n_resamples=_RESAMPLES,
        method="percentile", rng=np.random.default_rng(0), batch=_RESAMPLES // 10,
    ).confidence_interval  # fmt: skip
    return found.low, found.high


@dataclass(frozen=True)
class Difference:
    """A mean of differences between runs of the same seed.

    Attributes:
        mean: over seeds.
        low, high: Student's 95 % interval; NaN for one seed.
        p: of Student's test that the mean is 0; NaN for one seed, or where all differences are the same.
        seeds: how many.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def paired_difference(values: pd.Series, others: pd.Series) -> Difference:
    """`values` − `others`, both by seed; seeds that one of them lacks are left out."""
    differences = (values - others).dropna().to_numpy()
    mean = float(differences.mean()) if len(differences) else float("nan")
    if len(differences) < 2 or np.ptp(differences) == 0:
        unknown = float("nan") if len(differences) < 2 else mean
        return Difference(mean, unknown, unknown, float("nan"), len(differences))
    test = ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(CONFIDENCE)
    return Difference(mean, float(low), float(high), float(test.pvalue), len(differences))


def discoveries(differences: Sequence[Difference]) -> list[bool]:
    """Which of many differences are sure: at most 5 % of those that are called so are 0, as expected.

    Source: Benjamini & Hochberg, "Controlling the False Discovery Rate" (1995). Those without a `p` are not.
    """
    p = np.array([difference.p for difference in differences])
    sure = ~np.isnan(p)
    sure[sure] = false_discovery_control(p[sure]) <= 1 - CONFIDENCE
    return [bool(each) for each in sure]


def means_by(rows: pd.DataFrame, step: str, column: str) -> pd.DataFrame:
    """`mean`, `low` and `high` of `column` over seeds, by `step`; seeds without a value there count less.

    Args:
        rows: with columns `step`, `seed` and `column`; of several rows of a step and seed the mean counts.
    """
    table = rows.pivot_table(column, step, "seed")
    present = table.notna()
    parts = []
    # Interval by interval would take minutes; those of the same seeds are found together.
    for _, part in table.groupby([present[seed] for seed in present]):
        values = part.dropna(axis="columns").to_numpy().T
        low, high = mean_interval(values)
        parts.append(
            pd.DataFrame({"mean": values.mean(axis=0), "low": low, "high": high}, part.index)
        )
    if not parts:
        return pd.DataFrame(columns=["mean", "low", "high"], dtype=float)
    return pd.concat(parts).sort_index()
