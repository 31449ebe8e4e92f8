"""Federated learning under compressed uplinks, with side information at the server.

import wzfl
compressor = wzfl.build_compressor("wyner_ziv", bitrate=2)
"""

import wzfl.openmp  # noqa: F401  # before torch
from wzfl.config import build_compressor
from wzfl.errors import InputError, PayloadError
from wzfl.public import Public

__all__ = ["InputError", "PayloadError", "Public", "build_compressor"]
