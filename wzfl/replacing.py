"""How a file is written so that it is there as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write a file to, which takes the place of `path` when the block ends.

    If the block raises, what was at `path` before stays. A process that is killed leaves a file
    `partial.<process>.<name>` behind.

    Raises:
        OSError: the file can not be written or renamed.
    """
    partial = path.with_name(f"partial.{os.getpid()}.{path.name}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
