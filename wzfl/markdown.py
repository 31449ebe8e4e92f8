"""Numbers and frames as Markdown."""

import pandas as pd


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


def floats(count: int) -> str:
    return f"{count} floats" if count else "none"
