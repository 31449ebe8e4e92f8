"""What a report says of the downlink: weights, and what informed codes have clients told beside them."""

from collections.abc import Sequence

import pandas as pd

from wzfl.reporting import markdown
from wzfl.reporting.compressor_styles import in_order, label
from wzfl.reporting.intervals import BASELINE
from wzfl.reporting.summary import Sweep

_TEXT = """\
Weights go down as float32, {weights} per client and round; no compressor saves there. Beside them some \
codes have each client told a scale, a sketch or a plan, which the uplink's bits do not count:
"""


def downlink_section(sweeps: Sequence[Sweep]) -> str:
    """Markdown; empty where clients are told nothing but weights."""
    rows: list[dict[str, str]] = []
    weights: list[float] = []
    for sweep in sweeps:
        bits_down = _downlink_bits(sweep.runs)
        weights.append(float(bits_down[BASELINE]))
        beside = bits_down - bits_down[BASELINE]
        for bits, names in beside[beside > 0].groupby(beside):
            rows.append(_row(sweep, in_order(names.index), float(str(bits))))
    if not rows:
        return ""
    text = _TEXT.format(weights=" to ".join(dict.fromkeys(map(markdown.size, _ends(weights)))))
    return f"## What the downlink costs\n\n{text}\n{markdown.table(pd.DataFrame(rows))}\n"


def _downlink_bits(runs: pd.DataFrame) -> pd.Series:
    """Bits that a client receives in a round, by compressor."""
    bits = runs.downlink_bits / runs.clients_per_round / runs.rounds
    return bits.groupby(runs.compressor).mean()


def _row(sweep: Sweep, names: list[str], beside: float) -> dict[str, str]:
    """A table's row: compressors that send each client `beside` bits beside the weights."""
    runs = sweep.runs[sweep.runs.compressor.isin(names)]
    uplink = runs.measured_bitrate * runs.dim
    return {
        "setting": sweep.title,
        "compressors": ", ".join(map(label, names)),
        "side information": markdown.values(runs.side_information),
        "bytes beside the weights, per client and round": f"{beside / 8:.0f}",
        "bits per coordinate": f"{(beside / runs.dim).mean():.2g}",
        "share of the uplink": " to ".join(_percent(beside / bits) for bits in _ends(uplink)),
    }


def _percent(share: float) -> str:
    return f"{100 * share:{'.0f' if share >= 0.1 else '.2g'}} %"


def _ends(values: Sequence[float] | pd.Series) -> list[float]:
    return [min(values), max(values)]
