"""Tables as CSV files, there as a whole or not at all."""

import zlib
from pathlib import Path

import pandas as pd

from wzfl.errors import InputError
from wzfl.replacing import replacing


def save_table(table: pd.DataFrame, path: Path) -> None:
    """Writes a table, gzipped where the name ends so; the same table is always the same bytes.

    Raises:
        InputError: the table can not be written; one that was there before still is.
    """
    # gzip keeps a time and a name, by default those of the file that is written.
    packed = {"method": "gzip", "mtime": 0, "filename": path.name}
    compression = packed if path.suffix == ".gz" else None
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            table.to_csv(file, index=False, compression=compression)
    except OSError as error:
        raise InputError(
            f"{path.absolute()} can not be written ({error.strerror}), and stays as it was; make room"
            " there, or choose another folder of results"
        ) from error


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table of `save_table`; only empty cells are no values.

    Raises:
        InputError: it is damaged.
    """
    try:
        # "none" is a compressor.
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"{path.absolute()} is no table of results, or damaged ({error}); remove it, or restore it from"
            " where it came"
        ) from error
