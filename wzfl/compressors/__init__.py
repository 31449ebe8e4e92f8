"""What a compressor is.

    updates --> encode --bytes--> decode --> estimates
                  ^                ^  ^
                  +---- public ----+  +-- side information (server only, never sent)

A compressor is a frozen dataclass of hyperparameters that keeps nothing between calls. It leaves `updates`
and `side` as they were: errors are measured against the updates after they were encoded. To add one: a file
here, and a yaml of the same name in conf/compressor/. The tests find it there. Of its bitrate they know
whether the yaml takes ${bitrate}, and that what its constructor refuses is out of range; if its bits depend
on the data, add its name to DATA_DEPENDENT in tests/test_compressors.py, and once its format is final its
payload to GOLDEN, as the skipped test says. What it may offer beside `Compressor` is in the protocols below.
"""

from typing import Protocol, TypeGuard, runtime_checkable

from torch import Tensor

from wzfl.public import Public
from wzfl.residual_model import ResidualModel


class Compressor(Protocol):
    """Updates to bytes at the clients, and bytes to estimates at the server.

    Attributes:
        wire_id: the number of this format in a frame, 0 to 255, unique.
        aggregation: how the server combines the estimates: "mean" or "majority_vote".
        bitrate: payload bits per coordinate, the frame apart; the most, where data decide.
        unbiased: whether estimates average, over shared randomness, to the update; for a decoder with
            side information, as long as the planned scale holds.
    """

    @property
    def wire_id(self) -> int: ...

    @property
    def aggregation(self) -> str: ...

    @property
    def bitrate(self) -> float: ...

    @property
    def unbiased(self) -> bool: ...

    def encode(self, updates: Tensor, public: Public) -> list[bytes]:
        """One payload per row of `updates` `[clients, dim]`.

        Raises:
            InputError: the updates are not finite, or do not fit `public`.
        """
        ...

    def decode(self, payloads: list[bytes], side: Tensor, public: Public) -> Tensor:
        """Estimates `[clients, dim]` float32, on the device of `side` `[clients, dim]`.

        Raises:
            InputError: `side` does not fit `public`, or is not finite where its values are used.
            PayloadError: a payload is not one that this compressor made for this client and round.
        """
        ...


@runtime_checkable
class SelfReading(Protocol):
    """A compressor whose encoder knows what its payloads decode to, in less time than a decoder takes."""

    def encode_and_decode(self, updates: Tensor, public: Public) -> tuple[list[bytes], Tensor]:
        """The payloads of `encode`, and the estimates that `decode` makes of them."""
        ...


@runtime_checkable
class SideInformed(Protocol):
    """A compressor whose decoder uses the values of `side`; all others only look at its shape."""

    def decode_checked(
        self, payloads: list[bytes], side: Tensor, public: Public
    ) -> tuple[Tensor, Tensor]:
        """The estimates of `decode`, and which rows failed the decoder's check, `[clients]` bool.

        A failed row's estimate follows the compressor's stated rule.
        """
        ...

    def residual_gain(self, dim: int, scale_ratio: float) -> float:
        """g in E|estimate - side|**2 = g |update - side|**2.

        For a Gaussian residual whose RMS per coordinate is `public.scale / scale_ratio`. Above 1 for an
        unbiased estimate, whose error adds to the residual; below 1 for a shrunk one.
        """
        ...


@runtime_checkable
class Planned(Protocol):
    """A compressor that the server plans for, client by client, from a model of the residuals.

    It is `SideInformed` too; where there is no plan, it needs no model.
    """

    def plan(self, model: ResidualModel, side: Tensor) -> list[bytes]:
        """What the server, which expects `side` `[clients, dim]`, broadcasts to each client.

        A plan is empty where nothing can be planned.
        """
        ...

    def decode_checked(
        self,
        payloads: list[bytes],
        side: Tensor,
        public: Public,
        model: ResidualModel | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What `SideInformed.decode_checked` gives; `model` is the one that `public.plans` came from."""
        ...


@runtime_checkable
class UsesFailed(Protocol):
    """A `SideInformed` compressor that says what it does with payloads that failed its check.

    Attributes:
        uses_failed: whether a failed row is estimated from its payload all the same, so that clients need
            not send it again. A compressor without this attribute makes no use of such payloads.
    """

    @property
    def uses_failed(self) -> bool: ...


@runtime_checkable
class HasRelativeVariance(Protocol):
    """A compressor that states its error, from which `Diana` takes its step."""

    def relative_variance(self, dim: int) -> float:
        """omega in E|estimate - update|**2 = omega |update|**2."""
        ...


def is_side_informed(compressor: Compressor) -> TypeGuard[SideInformed]:
    """Whether the decoder uses `side`; `isinstance` takes 30 microseconds to find out every time."""
    return issubclass(type(compressor), SideInformed)


def is_planned(compressor: Compressor) -> TypeGuard[Planned]:
    """Whether the server plans for the compressor from a model of residuals."""
    return issubclass(type(compressor), Planned)


def uses_failed(compressor: Compressor) -> bool:
    """Whether a payload that failed the compressor's check is used all the same, and not sent again."""
    return isinstance(compressor, UsesFailed) and compressor.uses_failed


def has_relative_variance(compressor: Compressor) -> TypeGuard[HasRelativeVariance]:
    """Whether the compressor states its relative variance."""
    return issubclass(type(compressor), HasRelativeVariance)
