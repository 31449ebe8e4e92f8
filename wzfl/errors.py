"""What the rest of the package raises when it is given something it can not use."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A value from outside is unusable; the message says what was got, expected, and what to do."""


class PayloadError(ValueError):
    """A payload is not one that this decoder can read; it is never decoded to a guess."""


@contextmanager
def from_client(client: int) -> Iterator[None]:
    """Within it, a `PayloadError` becomes one that names the client whose payload can not be read."""
    try:
        yield
    except PayloadError as error:
        raise PayloadError(f"payload of client {client}: {error}") from None
