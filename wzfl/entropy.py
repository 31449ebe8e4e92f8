"""Entropy coding: an adapter on the `constriction` library."""

from typing import Any

import constriction
import numpy as np

from wzfl.errors import PayloadError


def encode_mask(mask: np.ndarray, ones: int) -> bytes:
    """The positions of `ones` ones in a boolean array, close to log2 C(len, ones) bits."""
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(mask.astype(np.int32), _bernoulli(len(mask), ones))
    return encoder.get_compressed().astype("<u4").tobytes()


def decode_mask(body: bytes | memoryview, length: int, ones: int) -> np.ndarray:
    """The boolean array `[length]` that `encode_mask` was given.

    Raises:
        PayloadError: the bytes are not those of a mask with `ones` ones.
    """
    if len(body) % 4:
        raise PayloadError(f"coded positions are whole 4-byte words; got {len(body)} bytes")
    words = np.frombuffer(body, dtype="<u4").astype(np.uint32)
    decoder = constriction.stream.queue.RangeDecoder(words)
    try:
        mask = decoder.decode(_bernoulli(length, ones), length).astype(bool)
    except (AssertionError, ValueError) as error:
        raise PayloadError(f"coded positions are invalid: {error}") from None
    if (count := int(mask.sum())) != ones:
        raise PayloadError(f"got {count} positions; expected {ones}")
    return mask


def _bernoulli(length: int, ones: int) -> Any:
    # Kept off 0 and 1, where the coder has no code word for a surprise.
    return constriction.stream.model.Bernoulli(
        min(max(ones / length, 1e-6), 1 - 1e-6), perfect=False
    )
