"""What compressors are given, and what they return: checked to be as their interface has it."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from wzfl.errors import InputError, PayloadError
from wzfl.host import ask
from wzfl.norms import largest_magnitudes
from wzfl.plain_tensor import plain
from wzfl.public import Public

LOWEST_BITRATE, HIGHEST_BITRATE = 0.02, 16.0
# Of a coordinate that codes take, as they scale sums of them; and of one that can be sent as it is.
LARGEST_MAGNITUDE, LARGEST_FLOAT32 = 2.0**106, float(np.finfo(np.float32).max)


def check_bitrate(name: str, bitrate: float, lowest: float, highest: float) -> None:
    """Raises `InputError` unless `lowest <= bitrate <= highest`."""
    if not lowest <= bitrate <= highest:
        raise InputError(
            f"bitrate={bitrate} is out of range for {name}: it takes {lowest} to {highest} bits per"
            " coordinate"
        )


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises `InputError` unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def check_planned(dim: int, scale_ratio: float) -> None:
    """Raises `InputError` unless vectors of `dim` coordinates can be planned for with such a scale."""
    if not (dim >= 1 and 0 < scale_ratio < np.inf):
        raise InputError(
            f"a residual gain is of dim at least 1 and a finite scale_ratio above 0; got dim={dim},"
            f" scale_ratio={scale_ratio}"
        )


def checked(updates: Tensor, public: Public, most: float = LARGEST_MAGNITUDE) -> Tensor:
    """The updates as float32 `[clients, dim]`, of magnitudes up to `most`, or an `InputError`."""
    updates, check = unchecked(updates, public, most)
    check()
    return updates


def unchecked(
    updates: Tensor, public: Public, most: float = LARGEST_MAGNITUDE
) -> tuple[Tensor, Callable[[], None]]:
    """The updates as `checked` gives them, while a GPU goes on; a check to call before payloads go out."""
    updates = shaped(updates, public)
    largest = ask(largest_magnitudes(updates))

    def check() -> None:
        wrong = ~(largest() <= most)
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"the update of client {public.clients[row]} {_excess(largest()[row], most)};"
                " training diverged? lower the learning rate"
            )

    if updates.is_cpu:
        check()
    return updates, check


def _excess(magnitude: np.float32, most: float) -> str:
    """Says in which way a magnitude is above `most`."""
    if not np.isfinite(magnitude):
        return "holds NaN or infinity (or exceeds float32)"
    return f"has a magnitude of {magnitude:.3g}, expected at most {most:.3g}"


def shaped(updates: Tensor, public: Public) -> Tensor:
    """The updates as float32 `[clients, dim]`, finite or not, or an `InputError`."""
    if not isinstance(updates, Tensor):
        raise InputError(
            f"updates must be a torch tensor; got {type(updates).__name__}: torch.as_tensor makes one"
        )
    if updates.ndim != 2 or not updates.is_floating_point() or updates.shape[1] == 0:
        raise InputError(
            f"updates must be floating point [clients, dim], dim at least 1; got"
            f" {updates.dtype} {tuple(updates.shape)}"
        )
    if updates.shape[0] != len(public.clients):
        raise InputError(f"got {updates.shape[0]} updates for {len(public.clients)} clients")
    if updates.device != public.scale.device:
        raise InputError(
            f"updates are on {updates.device}, public on {public.scale.device};"
            " move one of them with .to()"
        )
    return plain("updates", updates).float()


def dim_of(side: Tensor, public: Public) -> int:
    """How many coordinates the side information has, and so an estimate; or an `InputError`."""
    return _floating_point(side, public).shape[1]


def usable(side: Tensor, public: Public) -> Tensor:
    """Side information as floating point `[clients, dim]`, without a graph, or an `InputError`."""
    side = _floating_point(side, public)
    return side.float() if side.itemsize == 1 else side  # torch does not compute with 8 bits


def _floating_point(side: Tensor, public: Public) -> Tensor:
    if not isinstance(side, Tensor):
        raise InputError(
            f"side information must be a torch tensor; got {type(side).__name__}: torch.as_tensor makes one"
        )
    if not side.is_floating_point():
        raise InputError(
            f"side information must be floating point; got {side.dtype}: .float() makes it so"
        )
    if side.ndim != 2 or len(side) != len(public.clients):
        raise InputError(
            f"side information must be [clients, dim], for {len(public.clients)} clients; got"
            f" {tuple(side.shape)}"
        )
    return plain("side information", side)


def finite(
    estimates: Tensor,
    public: Public,
    meanwhile: Callable[[], None] | None = None,
    side: Tensor | None = None,
) -> Tensor:
    """The estimates `[clients, dim]` as they are; `meanwhile` is done while a GPU computes them.

    `side` is what they were made with, if it can be to blame.

    Raises:
        InputError: one is not finite, as the side information is not.
        PayloadError: one is not finite, as a forged scale can make it.
    """
    largest = ask(largest_magnitudes(estimates))
    if meanwhile is not None:
        meanwhile()
    wrong = ~np.isfinite(largest())
    if wrong.any():
        row = int(wrong.argmax())
        client = public.clients[row]
        if side is not None and not bool(largest_magnitudes(side[[row]]).isfinite()):
            raise InputError(
                f"side information for client {client} holds NaN or infinity (or exceeds float32);"
                " training diverged? decode with zeros"
            )
        raise PayloadError(
            f"payload of client {client}: decodes to values that are NaN or infinite; expected"
            " finite float32"
        )
    return estimates
