"""How compressors are called, ordered and drawn, the same in all figures and tables."""

import zlib
from collections.abc import Iterable
from typing import Any

from wzfl.reporting.intervals import BASELINE

_Style = tuple[str, str | tuple[int, tuple[int, ...]], str]  # colour, dashes and marker
# Okabe & Ito's colours, told apart with any kind of colour vision; dashes and markers in grey. A colour
# is a family: vermilion and purple use side information, blues are unbiased and memoryless, greens
# are sparse.
_STYLES: dict[str, _Style] = {
    BASELINE: ("#000000", "-", "o"),
    "float16": ("#000000", "--", "x"),
    "bfloat16": ("#000000", ":", "+"),
    "wyner_ziv": ("#D55E00", "-", "D"),
    "wyner_ziv_e8": ("#D55E00", (0, (6, 1, 1, 1)), "p"),
    "wyner_ziv_trellis": ("#D55E00", (0, (3, 1, 1, 1, 1, 1)), "h"),
    "wyner_ziv_wiener": ("#CC79A7", "-", "P"),
    "wyner_ziv_posterior": ("#CC79A7", "--", "X"),
    "slepian_wolf": ("#D55E00", ":", "*"),
    "slepian_wolf_posterior": ("#CC79A7", (0, (1, 1)), "*"),
    "slepian_wolf_trellis": ("#D55E00", (0, (3, 1)), "*"),
    "slepian_wolf_trellis_posterior": ("#CC79A7", (0, (5, 1)), "D"),
    "learned_slepian_wolf": ("#D55E00", (0, (5, 1)), "o"),
    "wyner_ziv_rmq": ("#D55E00", "--", "d"),
    "wyner_ziv_mq": ("#D55E00", "-.", "8"),
    "rdaq": ("#CC79A7", ":", ">"),
    "daq": ("#CC79A7", "-.", "<"),
    "eden": ("#56B4E9", "-", "h"),
    "drive": ("#56B4E9", ":", "h"),
    "diana": ("#56B4E9", "-.", "H"),
    "marina": ("#56B4E9", "--", "p"),
    "qsgd": ("#0072B2", "--", "s"),
    "qsgd_elias": ("#0072B2", "-", "s"),
    "k_level": ("#0072B2", "-.", "p"),
    "correlated": ("#0072B2", ":", "*"),
    "terngrad": ("#0072B2", ":", "X"),
    "topk": ("#009E73", "-.", "^"),
    "ef21": ("#009E73", "-", "^"),
    "randk": ("#009E73", ":", "v"),
    "signsgd": ("#E69F00", ":", "v"),
    "ef_signsgd": ("#E69F00", "-", "^"),
}
# Of compressors that have none above.
_GREYS, _DASHES = ("#444444", "#888888", "#BBBBBB"), ("-", "--", "-.", ":")
_LABELS = {BASELINE: "float32"}
MARKERS = "os^Dv<>pP*X"


def label(compressor: str) -> str:
    """How a compressor is called in figures and tables."""
    return _LABELS.get(compressor, compressor)


def look(compressor: str) -> dict[str, Any]:
    """A compressor's colour, dashes and marker, as matplotlib's keywords."""
    name = compressor.removesuffix(" (oracle)")
    colour, dash, marker = _STYLES.get(name) or _other(name)
    return {"color": colour, "linestyle": dash, "marker": marker}


def _other(name: str) -> _Style:
    """A grey style for a compressor that has none of its own, the same in all figures."""
    place = zlib.crc32(name.encode())  # seldom another's
    place, grey = divmod(place, len(_GREYS))
    place, dash = divmod(place, len(_DASHES))
    return _GREYS[grey], _DASHES[dash], MARKERS[place % len(MARKERS)]


def in_order(compressors: Iterable[str]) -> list[str]:
    """Each compressor once, in the order of all legends."""
    names = set(compressors)
    return [name for name in _STYLES if name in names] + sorted(names - set(_STYLES))
