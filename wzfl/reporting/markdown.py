"""Numbers and frames as Markdown."""

import numpy as np
import pandas as pd

from wzfl.reporting.intervals import Difference


def table(frame: pd.DataFrame) -> str:
    return str(frame.to_markdown(index=False, disable_numparse=True))


def values(column: pd.Series) -> str:
    """Each once."""
    return ", ".join(sorted({str(value) for value in column}))


def number(value: float, digits: str = "g") -> str:
    return "—" if value != value else format(value, digits)


def size(bits: float) -> str:
    """Bits as kB, MB or GB (powers of 1000)."""
    if bits != bits:
        return "not reached"
    count = bits / 8e3
    for unit in ("kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def difference(found: Difference) -> str:
    """+1.20 (+0.90 to +1.50), p = 0.01; bold where the interval leaves 0 out. +1.20 where there is none."""
    if np.isnan(found.low):
        return f"{found.mean:+.2f}"
    mark = "**" if found.sure else ""
    text = f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
    p = "" if np.isnan(found.p) else f", p = {found.p:.2g}"
    return f"{mark}{text}{mark}{p}"


def floats(count: int) -> str:
    return f"{count} floats" if count else "none"
