"""Compressors that cheat, and the property that catches each of them."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import test_compressors as properties
import torch

from wzfl.compressors.envelope import open_rows, seal_rows
from wzfl.compressors.float32 import float32_bytes, float32_rows
from wzfl.compressors.inputs import checked
from wzfl.compressors.uncompressed import Uncompressed


@dataclass(frozen=True)
class SharedRange(Uncompressed):
    """Scales all clients by the largest of them."""

    wire_id: ClassVar[int] = 200

    def encode(self, updates, public):
        updates = checked(updates, public)
        return seal_rows(self, float32_bytes(updates / updates.abs().max()), 1000, public)


@dataclass(frozen=True)
class KeptScale(Uncompressed):
    """Leaves the scale on the object instead of in the payload."""

    kept: ClassVar[dict]

    def __post_init__(self):
        object.__setattr__(self, "kept", {})

    def encode(self, updates, public):
        self.kept["scale"] = updates.abs().amax(dim=1, keepdim=True)
        return super().encode(updates / self.kept["scale"], public)

    def decode(self, payloads, side, public):
        values = super().decode(payloads, side, public)
        return values * self.kept["scale"]


@dataclass(frozen=True)
class FreeSide(Uncompressed):
    """Takes from the side information what it did not send, without the door for it."""

    def encode(self, updates, public):
        return seal_rows(self, float32_bytes(updates[:, :500]), 1000, public)

    def decode(self, payloads, side, public):
        values = float32_rows(open_rows(self, payloads, 1000, public), side.device, public.clients)
        return torch.cat([values, side[:, 500:]], dim=1)


@dataclass(frozen=True)
class HiddenBits(Uncompressed):
    """Says half the bits that it sends."""

    bitrate: ClassVar[float] = 16.0


@dataclass(frozen=True)
class Unseeded(Uncompressed):
    """Adds noise that its decoder can not know."""

    def decode(self, payloads, side, public):
        estimates = super().decode(payloads, side, public)
        return estimates + torch.rand_like(estimates)


@dataclass(frozen=True)
class Biased(Uncompressed):
    """Claims to be unbiased and shrinks."""

    def decode(self, payloads, side, public):
        return 0.9 * super().decode(payloads, side, public)


@dataclass(frozen=True)
class Trusting(Uncompressed):
    """Reads a payload whatever its checksum says."""

    def decode(self, payloads, side, public):
        dim = side.shape[1]
        bodies = [payload[6 : 6 + 4 * dim].ljust(4 * dim, b"\0") for payload in payloads]
        return float32_rows(bodies, side.device, public.clients)


@dataclass(frozen=True)
class MovedTarget(Uncompressed):
    """Rounds coarsely, and the updates with which its estimates are compared as well."""

    def encode(self, updates, public):
        return super().encode(updates.round_(), public)


@dataclass(frozen=True)
class MovedSide(Uncompressed):
    """Makes the side information what it decodes to."""

    def decode(self, payloads, side, public):
        return side.copy_(super().decode(payloads, side, public))


def test_a_scale_shared_by_clients_is_caught(updates, public):
    with pytest.raises(AssertionError):
        properties.test_clients_do_not_see_each_other(SharedRange, updates, public)


def test_a_scale_kept_on_the_object_is_caught(updates, public):
    with pytest.raises(KeyError):
        properties.test_a_decoder_that_never_met_the_encoder_reads_the_payload(
            KeptScale, updates, public
        )


def test_side_information_by_the_back_door_is_caught(updates, public):
    with pytest.raises(AssertionError):
        properties.test_the_planned_scale_is_used_by_both_ends(
            lambda bitrate: FreeSide(), updates, public, 0.3
        )


def test_bits_that_are_not_told_are_caught(monkeypatch):
    monkeypatch.setattr(properties, "build_or_skip", lambda name, bitrate: HiddenBits())
    with pytest.raises(AssertionError):
        properties.test_measured_bits_are_the_configured_ones("none", 16, 1000)


def test_randomness_that_is_not_shared_is_caught(updates, public):
    with pytest.raises(AssertionError):
        properties.test_a_decoder_that_never_met_the_encoder_reads_the_payload(
            Unseeded, updates, public
        )


def test_a_bias_is_caught(monkeypatch):
    monkeypatch.setattr(properties.wzfl, "build_compressor", lambda name, bitrate: Biased())
    with pytest.raises(AssertionError):
        properties.test_unbiased_where_claimed("none", 2)


def test_a_decoder_that_trusts_anything_is_caught(updates, public):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        properties.test_damaged_and_foreign_payloads_are_refused(Trusting, updates, public)


@pytest.mark.parametrize("cheat", [MovedTarget, MovedSide])
def test_what_is_changed_in_place_is_caught(updates, public, cheat):
    with pytest.raises(AssertionError):
        properties.test_what_is_given_stays_as_it_was(cheat, updates, public, 0.3)
