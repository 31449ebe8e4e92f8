"""Prints what each compressor makes of the same vectors, and what is read of that, as JSON.

With NUMBA_DISABLE_JIT=1 Python itself carries out what is compiled else.
"""

import json

import torch
from test_learned import Fleet

import wzfl
from wzfl.config import compressor_names
from wzfl.public import Public

SETTINGS = [(2, 300), (3.5, 91)]
LARGE = ("eden", 1, 9001)  # its rotation takes all kinds of passes


def payloads() -> dict[str, list[str]]:
    cases = [(name, *setting) for name in compressor_names() for setting in SETTINGS] + [LARGE]
    made = {f"{name} {bitrate} {dim}": _coded(name, bitrate, dim) for name, bitrate, dim in cases}
    signs = Public(seed=0, round=1, clients=(0, 1)).signs("signs", 70)
    return made | {"learned": _learned(), "signs": [signs.numpy().tobytes().hex()]}


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


if __name__ == "__main__":
    print(json.dumps(payloads()))
