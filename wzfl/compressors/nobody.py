"""Rounds without clients: there is nothing to send, and nothing to read."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from wzfl.compressors.envelope import checked, unchecked_rows, usable
from wzfl.public import Public

Kind = TypeVar("Kind")
Answers = dict[str, Callable[[Tensor], Any]]

# What methods give, from estimates `[0, dim]`.
_ENCODERS: Answers = {
    "encode": lambda nothing: [],
    "encode_and_decode": lambda nothing: ([], nothing),
}
_DECODERS: Answers = {
    "decode": lambda nothing: nothing,
    "decode_checked": lambda nothing: (nothing, nothing.new_zeros(0, dtype=torch.bool)),
}


def for_nobody_too(compressor: type[Kind]) -> type[Kind]:
    """The class of a compressor, none of whose own methods is asked where there are no clients.

    They then give `[]` and `[0, dim]`; what comes in is checked all the same.
    """
    for wrapped, answers in ((_encoder, _ENCODERS), (_decoder, _DECODERS)):
        for name in answers.keys() & vars(compressor).keys():
            setattr(compressor, name, wrapped(vars(compressor)[name], answers[name]))
    return compressor


def _encoder(method: Callable[..., Any], answer: Callable[[Tensor], Any]) -> Callable[..., Any]:
    @wraps(method)
    def encoder(self: Any, updates: Tensor, public: Public) -> Any:
        if public.clients:
            return method(self, updates, public)
        return answer(checked(updates, public))

    return encoder


def _decoder(method: Callable[..., Any], answer: Callable[[Tensor], Any]) -> Callable[..., Any]:
    @wraps(method)
    def decoder(
        self: Any, payloads: list[bytes], side: Tensor, public: Public, *more: Any, **named: Any
    ) -> Any:
        if public.clients:
            return method(self, payloads, side, public, *more, **named)
        side = usable(side, public)
        unchecked_rows(self, payloads, side.shape[1], public)
        return answer(side.float())

    return decoder
