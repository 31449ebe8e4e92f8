"""Tables as CSV files, there as a whole or not at all."""

import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from wzfl.errors import InputError


def save_table(table: pd.DataFrame, path: Path) -> None:
    """Writes beside, then renames; gzipped where the name ends so.

    Raises:
        InputError: the table can not be written; one that was there before still is.
    """
    # gzip keeps a time, and the file's name: without the one, and with the other as it is to be, the same
    # table is the same bytes.
    packed = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
    try:
        with TemporaryDirectory(prefix="partial.", dir=path.parent) as folder:
            partial = Path(folder, path.name)
            table.to_csv(partial, index=False, compression=packed)
            partial.replace(path)
    except OSError as error:
        raise InputError(
            f"{path.absolute()} can not be written ({error.strerror}), and stays as it was; make room"
            " there, or choose another folder of results"
        ) from error


def read_table(path: Path) -> pd.DataFrame:
    """What was written.

    Raises:
        InputError: it is damaged.
    """
    try:
        # "none" is a compressor; only an empty cell is no value.
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"{path.absolute()} is no table of results, or damaged ({error}); remove it, or restore it from"
            " where it came"
        ) from error
