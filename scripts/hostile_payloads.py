"""What a client could send to a server, as the bytes that a fuzzer chooses, and what must come of it.

The first byte of an input says how the rest is taken, the second for which setting of the compressor:

    arrived   a whole payload
    forged    the body of a payload, which is sealed with the valid checksum
    told      two bytes of a scale, as by clients that measure theirs, and a body sealed for it

What honest clients send, and what was found to reach different code, is kept in tests/corpus/: a file per
compressor, an input a line, in hexadecimal digits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wzfl import build_compressor
from wzfl.compressors import Compressor
from wzfl.compressors.envelope import open_rows, seal_rows
from wzfl.compressors.plane_plan import Plan
from wzfl.config import compressor_names
from wzfl.decoding import decode
from wzfl.errors import PayloadError
from wzfl.feedback import ClientSide
from wzfl.kernels.density import BINS
from wzfl.measured_scale import prepend_scales, split_scales
from wzfl.public import Public
from wzfl.residual_model import Density, Expectation, ResidualModel

DIM = 45  # no multiple of 8; small enough for hundreds of decodes a second
NAMES = compressor_names()
CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
_KINDS = ("arrived", "forged", "told")
_BITRATES = (0.5, 2, 3.5)
_SCALES = (0.0, 0.5)  # planned; 0: the payload says it
# Settings that no yaml chooses, and that are decoded by code of their own.
_VARIANTS: dict[str, list[dict[str, Any]]] = {
    "eden": [{"scale": "least_error"}],
    "k_level": [{"rotation": False}],
    "learned_slepian_wolf": [{"block": 16}],
    "qsgd": [{"bucket": 16}],
    "qsgd_elias": [{"code": "gamma"}],
    "randk": [{"value_bits": 4}, {"value_bits": 32}],
    "slepian_wolf": [{"block": 16}],
    "slepian_wolf_trellis": [{"block": 16}],
    "terngrad": [{"coding": "packed"}, {"bucket": 16}],
    "topk": [{"compressor": {"value_bits": 4}}, {"compressor": {"value_bits": 32}}],
    "wyner_ziv": [{"on_failure": "side"}, {"symbol_bits": 3}],
    "wyner_ziv_e8": [{"estimator": "wiener"}],
    "wyner_ziv_trellis": [{"estimator": "wiener"}],
}


@dataclass(frozen=True)
class Setting:
    """A compressor, and what its decoder knows of a client."""

    compressor: Compressor
    public: Public
    side: torch.Tensor
    model: ResidualModel | None = None


@lru_cache
def settings(name: str) -> list[Setting]:
    """All settings for which a compressor's inputs are taken."""
    made = []
    for changes, bitrate, scale in product([{}, *_VARIANTS.get(name, [])], _BITRATES, _SCALES):
        compressor = build_compressor(name, bitrate=bitrate, **changes)
        if isinstance(compressor, ClientSide):
            compressor = compressor.compressor
        public = Public(3, 5, (7,), torch.tensor([scale]))
        side = _normal(0) + 0.3 * _normal(1)  # near what honest clients send
        made.append(Setting(compressor, public, side))
        if name == "learned_slepian_wolf":
            planned = replace(public, plans=(_plan(changes.get("block", DIM)),))
            affords_it = build_compressor(name, bitrate=16, **changes)
            made.append(Setting(affords_it, planned, side, _model()))
    return made


def decoded(name: str, data: bytes) -> bool:
    """Whether the input's payload was decoded, to finite numbers of the right shape; else it was refused.

    Raises:
        AssertionError: the estimate is neither.
    """
    if len(data) < 2:
        return False
    kind, among = _KINDS[data[0] % len(_KINDS)], settings(name)
    setting, data = among[data[1] % len(among)], data[2:]
    compressor, public = setting.compressor, setting.public
    try:
        if kind == "told":
            (data,), public = split_scales([data], public)
        if kind != "arrived":
            (data,) = seal_rows(compressor, [data], DIM, public)
        estimate, failed = decode(compressor, [data], setting.side, public, setting.model)
    except PayloadError:
        return False
    assert estimate.shape == (1, DIM)
    assert estimate.dtype == torch.float32
    assert failed.shape == (1,)
    assert bool(estimate.isfinite().all())
    return True


def seeds(name: str) -> list[bytes]:
    """An input of each kind and setting that is decoded: what an honest client sends."""
    inputs = []
    update = _normal(0)
    for number, setting in enumerate(settings(name)):
        (payload,) = setting.compressor.encode(update, setting.public)
        body = _body(setting.compressor, update, setting.public)
        public = replace(setting.public, scale=torch.tensor([0.5]))
        (told,) = prepend_scales([_body(setting.compressor, update, public)], public)
        for kind, data in enumerate((payload, body, told)):
            inputs.append(bytes([kind, number]) + data)
    return inputs


def corpus(name: str) -> list[bytes]:
    """The inputs that are kept of a compressor; none if there are none."""
    path = CORPUS / f"{name}.hex"
    return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []


def keep(name: str, inputs: Iterable[bytes]) -> None:
    """Makes `inputs` those that are kept of a compressor."""
    CORPUS.mkdir(exist_ok=True)
    lines = sorted({data.hex() for data in inputs if data})
    (CORPUS / f"{name}.hex").write_text("".join(f"{line}\n" for line in lines))


def _normal(seed: int) -> torch.Tensor:
    return torch.randn(1, DIM, generator=torch.Generator().manual_seed(seed))


def _body(compressor: Compressor, update: torch.Tensor, public: Public) -> bytes:
    (body,) = open_rows(compressor, compressor.encode(update, public), DIM, public)
    return bytes(body)


def _plan(block: int) -> bytes:
    """Planes of a block that are sent not at all, in part and whole, the highest first."""
    size = -(-DIM // -(-DIM // block))
    return Plan(0.5, 1.0, (0, size // 9, size // 2, size - 2, size)).to_bytes()


def _model() -> ResidualModel:
    """A server's model that expects much in some coordinates and little in others."""
    contexts = np.linspace(50, 70, DIM).astype(np.uint8)[None]
    expectation = Expectation(contexts, Density.of(np.zeros((BINS, BINS)), 0.25))
    return ResidualModel(expectation, [None], [0.0], lambda *known: expectation.explain(*known)[0])
