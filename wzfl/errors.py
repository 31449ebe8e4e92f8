"""What the rest of the package raises when it is given something it can not use."""


class InputError(ValueError):
    """A value from outside is unusable; the message says what was got, expected, and what to do."""


class PayloadError(ValueError):
    """A payload is not one that this decoder can read; it is never decoded to a guess."""
