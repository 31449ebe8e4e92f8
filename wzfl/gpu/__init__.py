"""Kernels for one CUDA device, in Triton, which comes with torch: payloads are made where the vectors are.

Each does what the torch code beside its caller does, in the same order of floating-point operations, so
that a GPU and a CPU send the same bytes; here a vector passes the device's memory a few times instead of
once per operation. Modules are imported where they are first needed: Triton is not on every system.
"""

import logging
from functools import lru_cache
from importlib.util import find_spec

import torch

log = logging.getLogger(__name__)


def is_usable(device: torch.device, count: int) -> bool:
    """Whether kernels here work on vectors of `count` coordinates on `device`."""
    return device.type == "cuda" and count < 2**31 and _compiles()


@lru_cache
def _compiles() -> bool:
    if find_spec("triton") is None:
        return False
    from wzfl.gpu import draws

    try:
        draws.words(torch.zeros(1, dtype=torch.int64, device="cuda"), 1)
    # No C compiler, no Python headers, a device too old: Triton's own errors.
    except Exception as error:
        log.warning(
            "no kernels of Triton (%s): torch's operations instead, which take longer", error
        )
        return False
    return True
