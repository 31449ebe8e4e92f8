"""Prints what each compressor makes of the same vectors, and what is read of that, as JSON.

With NUMBA_DISABLE_JIT=1 Python itself carries out what is compiled else.
"""

import json

import numpy as np
import torch
from test_learned import Fleet

import wzfl
from wzfl import elias
from wzfl.config import compressor_names
from wzfl.entropy import decode_positions, encode_positions
from wzfl.public import Public

SETTINGS = [(2, 300), (3.5, 91)]
OTHERS = [
    ("eden", 1, 9001),  # its rotation takes all kinds of passes
    ("eden", 8, 300),  # of many centroids the nearest is searched for
    ("topk", 0.02, 30_000),  # a sample tells the largest apart
]


def payloads() -> dict[str, list[str]]:
    cases = [(name, *setting) for name in compressor_names() for setting in SETTINGS] + OTHERS
    made = {f"{name} {bitrate} {dim}": _coded(name, bitrate, dim) for name, bitrate, dim in cases}
    signs = Public(seed=0, round=1, clients=(0, 1)).signs("signs", 70)
    made |= {"signs": [signs.numpy().tobytes().hex()], "learned": _learned()}
    return made | {"positions": _positions(9000, 300), "integers": _integers(70)}


def _coded(name: str, bitrate: float, dim: int) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    updates, residuals = torch.randn(2, 2, dim, generator=generator)
    public = Public(seed=0, round=1, clients=(0, 1), scale=torch.tensor([0.1, 0.2]))
    compressor = wzfl.build_compressor(name, bitrate=bitrate)
    strings = compressor.encode(updates, public)
    decoded = compressor.decode(strings, updates + public.scale[:, None] * residuals, public)
    return [string.hex() for string in strings] + [decoded.numpy().tobytes().hex()]


def _learned() -> list[str]:
    """Two rounds, the second of which is planned from the first."""
    fleet = Fleet(2, dim=1024)
    rounds = [fleet.step() for _ in range(2)]
    return [payload.hex() for *_, sent in rounds for payload in sent]


def _positions(length: int, count: int) -> list[str]:
    """All at the end, after a gap of many symbols."""
    places = np.arange(length - 2 * count, length, 2)
    body = encode_positions(places, length)
    return [body.hex(), decode_positions(body, length, count).tobytes().hex()]


def _integers(count: int) -> list[str]:
    """By the code of Elias that no compressor takes unless asked."""
    bits = elias.encode(np.arange(1, count + 1), "gamma")
    return [bits.tobytes().hex(), elias.decode(bits, count, "gamma")[0].tobytes().hex()]


if __name__ == "__main__":
    print(json.dumps(payloads()))
