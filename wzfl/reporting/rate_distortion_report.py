"""results/rate_distortion.md: the table of errors on vectors as text."""

import pandas as pd

from wzfl.reporting import markdown

_SETTING = ["source", "dim", "clients", "snr_db"]
_TIMED_AT = 2.0  # bits per coordinate
_LIMITS = {"wyner_ziv": "Wyner-Ziv", "shannon": "Shannon"}
_INTRODUCTION = f"""\
# Rate and distortion on vectors

{markdown.generated_by("make rate-distortion")}
Measured without training. The gap is that to the limit of \
Gaussian vectors in dB, at the measured bits (payloads with everything in them), by configured bits per \
coordinate: the Wyner-Ziv limit where the decoder has side information, Shannon's where it has none. \
Decoders with side information are given the residual's true RMS. MB of float32 input per second are \
those of one core at 2 bits. Failed are vectors whose decoder noticed that it could not read all of them.
"""


def rate_distortion_report(measured: pd.DataFrame) -> str:
    """A section per source, dimension, number of clients and SNR of `wzfl.rate_distortion`'s table."""
    sections = [_section(rows) for _, rows in measured.groupby(_SETTING, dropna=False)]
    return "\n".join([_INTRODUCTION, *sections])


def _section(rows: pd.DataFrame) -> str:
    first, draws = rows.iloc[0], rows.draws.unique()
    name = str(first.source).replace("_", " ")
    vectors = " or ".join(str(int(first.clients * count)) for count in sorted(draws))
    known = f"side information at {first.snr_db:g} dB"
    if first.snr_db != first.snr_db:
        known = f"|x − y|² / |x|² = {first.side_information_error:.3g}"
    return (
        f"## {name}: {vectors} vectors of {int(first.dim)} coordinates, {known}\n\n"
        f"{markdown.table(_gaps(rows))}\n"
    )


def _gaps(rows: pd.DataFrame) -> pd.DataFrame:
    keys = ["limit", "compressor"]
    bits = rows.bitrate.map(lambda bitrate: f"{bitrate:.3g}")
    gaps = rows.assign(bits=bits).pivot_table("gap_db", keys, "bits")
    columns = [b for b in bits[rows.bitrate.sort_values().index].unique() if b in gaps.columns]
    table = gaps[columns].map(lambda gap: markdown.number(gap, ".2f"))
    timed = rows[rows.bitrate == _TIMED_AT].set_index(keys)
    for column in ("encode", "decode"):
        speed = 4e-6 * timed.dim / timed[f"{column}_seconds"]
        speed = speed.groupby(level=keys).mean().reindex(table.index)
        table[f"{column} MB/s"] = speed.map(lambda each: markdown.number(each, ".3g"))
    vectors = (rows.draws * rows.clients).groupby([rows[key] for key in keys]).sum()
    failed = rows.groupby(keys).decode_failures.sum()
    table["failed"] = [
        f"{int(failed[index])} of {int(vectors[index])}" if index[0] == "wyner_ziv" else "—"
        for index in table.index
    ]
    table = table.reset_index()
    table["limit"] = table.limit.map(_LIMITS)
    return table
