"""The properties that every compressor in conf/compressor/ meets."""

import struct
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLIENTS

import wzfl
from wzfl.compressors import SelfReading, SideInformed
from wzfl.compressors.daq import DAQ
from wzfl.compressors.eden import Eden
from wzfl.compressors.envelope import open_rows, seal_rows
from wzfl.compressors.inputs import LARGEST_MAGNITUDE, finite
from wzfl.compressors.qsgd_elias import QSGDElias
from wzfl.compressors.randk import RandK
from wzfl.compressors.scaled_sign import ScaledSign
from wzfl.compressors.terngrad import TernGrad
from wzfl.compressors.uncompressed import Uncompressed
from wzfl.config import _choice, compressor_names, conf_dir
from wzfl.feedback import ClientMemory
from wzfl.frame import OVERHEAD_BYTES
from wzfl.public import Public

NAMES = compressor_names()
# Compressors without the choice of a bitrate, and those whose bits depend on the data.
FIXED_RATE = {name for name in NAMES if "${bitrate}" not in str(_choice("compressor", name))}
DATA_DEPENDENT = {"terngrad"}
HIGHEST_BITRATE = {"eden": 8, "diana": 8, "marina": 8, "qsgd_elias": 12, "wyner_ziv_e8": 8}
BITRATES = [0.02, 0.05, 0.5, 1, 1.5, 2, 2.5, 3, 4, 7.3, 8, 16]
FRAME_BYTES = 16
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GOLDEN = {
    "bfloat16": "040d08000000003f80bf803e404000be0000004040bfe2dfdb14",
    "correlated": "0408080000000000f43fecbd05215f0f0e99",
    "daq": "04050800000081bf1f5488a0",
    "diana": "040608000000ee72ac3fc598cd7a0f533088",
    "drive": "0406080000000d0113407a24df01ac",
    "eden": "040608000000ee72ac3fc598cd7af01a0716",
    "ef21": "04030800000000004040003c00ed7f54412dfa5f",
    "ef_signsgd": "040a080000000000743f49c4e6a5ee",
    "float16": "040d0800000000004040553155b5552d003c55a90000553900b447fa2ddf",
    "k_level": "040708000000000070bf00003040fb987a48e00941a9",
    "learned_slepian_wolf": "040f080000008ba1ae3fbe9a3e444b447210e620",
    "marina": "040608000000ee72ac3fc598cd7a69fc1ae1",
    "none": "0400080000000000003f000080bf0000803e00004040000000be0000000000000040000040bf470eb21b",
    "qsgd": "040208000000000040400f1e5db24dddd1c6",
    "qsgd_elias": "040c08000000b2d9a33f03000000ccc033800262",
    "randk": "0409080000000000003f003c836b98d7",
    "rdaq": "04050800000081ffabd9cb59",
    "signsgd": "040108000000495b630c06",
    "slepian_wolf": "040e080000008ba1ae3fbe9a3e444b4479d19ee2",
    "slepian_wolf_posterior": "040e080000008ba1ae3fbe9a3e444b443f4a20e9",
    "slepian_wolf_trellis": "0412080000008ba1ae3fd0b1407a0f00725e539d",
    "slepian_wolf_trellis_posterior": "0412080000008ba1ae3fd0b1407a0f00a59e1bb0",
    "terngrad": "040b08000000000040400300000080d3b2117f8fb47dfe",
    "topk": "04030800000000004040003c00ed7f54ce398b06",
    "wyner_ziv": "0404080000008ca1ae3f00ff00ff65550d054796faed",
    "wyner_ziv_e8": "0410080000008ca1ae3ffe00fffff01721b979d13052",
    "wyner_ziv_mq": "040408000000661e923f00ff00fff0115341ec6ad7d7",
    "wyner_ziv_posterior": "0404080000008ca1ae3f00ff00ff65550d05fad078c2",
    "wyner_ziv_rmq": "0404080000008ca1ae3f00ff00ff28154d055a8f88a5",
    "wyner_ziv_trellis": "0411080000008ca1ae3f00ff000046740c04bf2d315c",
    "wyner_ziv_wiener": "0404080000008ca1ae3f00ff00ff65550d05e465288f",
}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def build(name):
    return partial(wzfl.build_compressor, name, bitrate=2)


def build_or_skip(name, bitrate):
    try:
        return wzfl.build_compressor(name, bitrate=bitrate)
    except wzfl.InputError as refusal:
        if name in GOLDEN and bitrate <= HIGHEST_BITRATE.get(name, 16):
            raise
        pytest.skip(str(refusal))


def round_trip(compressor, updates, public, side=None):
    side = torch.zeros_like(updates) if side is None else side
    return compressor.decode(compressor.encode(updates, public), side, public)


def test_a_decoder_that_never_met_the_encoder_reads_the_payload(build, updates, public):
    payloads = build().encode(updates, public)
    assert all(type(payload) is bytes for payload in payloads)
    side = torch.zeros_like(updates)
    first, second = build().decode(payloads, side, public), build().decode(payloads, side, public)
    assert torch.equal(first, second)
    assert first.shape == updates.shape
    assert first.dtype == torch.float32


def test_what_a_view_takes_its_bytes_for_does_not_matter(build, updates, public):
    payloads, side = build().encode(updates, public), torch.zeros_like(updates)
    signed = [memoryview(payload).cast("b") for payload in payloads]
    decoded = build().decode(payloads, side, public)
    assert torch.equal(build().decode(signed, side, public), decoded)


def test_how_updates_lie_in_memory_does_not_matter(build, updates, public):
    payloads = build().encode(updates, public)
    columns = updates.t().contiguous().t()
    assert build().encode(columns, public) == payloads
    assert build().encode(updates.clone().requires_grad_(), public) == payloads
    estimates = build().decode(payloads, torch.zeros_like(updates).double(), public)
    assert estimates.dtype == torch.float32


@contextmanager
def float64_by_default():
    """What a caller may have set for its own sake."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("bitrate", [0.5, 2, 2.5])
@pytest.mark.parametrize("planned", [False, True])
def test_torch_s_default_dtype_does_not_matter(build, updates, public, bitrate, planned):
    scale, side = (torch.full((CLIENTS,), 0.3), updates.roll(1, 1)) if planned else (None, updates)
    compressor = build(bitrate=bitrate)
    payloads = compressor.encode(updates, replace(public, scale=scale))
    estimates = compressor.decode(payloads, side, replace(public, scale=scale))
    with float64_by_default():
        known = Public(public.seed, public.round, public.clients, scale)
        assert compressor.encode(updates, known) == payloads
        again = compressor.decode(payloads, side, known)
    assert again.dtype == torch.float32
    assert torch.equal(again, estimates)


def test_side_information_of_another_shape_is_refused(build, updates, public):
    payloads = build().encode(updates, public)
    for side in (updates[:1], torch.cat([updates, updates[:1]]), updates[0], updates[None]):
        with pytest.raises(wzfl.InputError, match="side information must be"):
            build().decode(payloads, side, public)


@pytest.mark.parametrize("payloads", [None, 5])
def test_payloads_are_listed(build, updates, public, payloads):
    with pytest.raises(wzfl.InputError, match="payloads must be a list, one per client; got"):
        build().decode(payloads, updates, public)


@pytest.mark.parametrize(("dim", "ratio"), [(0, 1.0), (100, 0.0), (100, -1.0), (100, float("nan"))])
def test_a_gain_is_of_some_scale(build, dim, ratio):
    if not isinstance(build(), SideInformed) or isinstance(build(), DAQ):
        pytest.skip("its gain depends on no scale")
    with pytest.raises(wzfl.InputError, match=f"above 0; got dim={dim}, scale_ratio={ratio}"):
        build().residual_gain(dim, ratio)


@pytest.mark.parametrize(
    ("unusable", "message"),
    [
        (lambda side: side.numpy(), "side information must be a torch tensor; got ndarray"),
        (lambda side: None, "side information must be a torch tensor; got NoneType"),
        (lambda side: side.int(), "side information must be floating point; got torch.int32"),
        (lambda side: side.to("meta"), "side information must have values; got .* on meta"),
        (lambda side: side.to_sparse(), "side information must be dense; got layout"),
    ],
)
def test_side_information_of_the_wrong_kind_is_refused(build, updates, public, unusable, message):
    payloads = build().encode(updates, public)
    with pytest.raises(wzfl.InputError, match=message):
        build().decode(payloads, unusable(updates), public)


def test_side_information_may_carry_a_graph(build, updates, public):
    public = replace(public, scale=torch.full((CLIENTS,), 0.3))
    payloads, side = build().encode(updates, public), updates.roll(1, 1)
    estimates = build().decode(payloads, side.clone().requires_grad_(), public)
    assert not estimates.requires_grad
    assert torch.equal(estimates, build().decode(payloads, side, public))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("planned", [0.0, 0.3])
def test_side_information_that_is_not_finite_is_no_fault_of_the_client_s(
    build, updates, public, bad, planned
):
    public = replace(public, scale=torch.full((CLIENTS,), planned))
    payloads, side = build().encode(updates, public), updates.roll(1, 1)
    expected = build().decode(payloads, side, public)
    side[1, 3] = bad
    if not isinstance(build(), SideInformed):
        assert torch.equal(build().decode(payloads, side, public), expected)
    else:
        with pytest.raises(wzfl.InputError, match="side information for client 0 holds NaN or inf"):
            build().decode(payloads, side, public)


@pytest.mark.parametrize("planned", [0.0, 0.3])
def test_what_is_given_stays_as_it_was(build, updates, public, planned):
    """Errors are measured against the updates, and a memory keeps the side information."""
    public, side = replace(public, scale=torch.full((CLIENTS,), planned)), updates.roll(1, 1)
    given, expected, compressor = updates.clone(), side.clone(), build()
    payloads = compressor.encode(updates, public)
    assert torch.equal(updates, given)
    if isinstance(compressor, SelfReading):
        compressor.encode_and_decode(updates, public)
        assert torch.equal(updates, given)
    sent = list(payloads)
    compressor.decode(payloads, side, public)
    assert torch.equal(side, expected)
    assert payloads == sent
    assert torch.equal(public.scale, torch.full((CLIENTS,), planned))


def test_clients_do_not_see_each_other(build, updates, public):
    together = build().encode(updates, public)
    alone = [
        build().encode(updates[[row]], public.rows(slice(row, row + 1)))[0]
        for row in range(CLIENTS)
    ]
    assert together == alone
    decoded = build().decode(together, torch.zeros_like(updates), public)
    for row in range(CLIENTS):
        one = build().decode(
            [together[row]], torch.zeros(1, 1000), public.rows(slice(row, row + 1))
        )
        assert torch.equal(one[0], decoded[row])


def test_clients_with_a_plan_and_without_do_not_see_each_other(build, updates, public):
    public = Public(public.seed, public.round, public.clients, torch.tensor([0.3, 0.0, 0.2]))
    side = updates + 0.2 * torch.randn(updates.shape, generator=torch.Generator().manual_seed(1))
    together = build().encode(updates, public)
    decoded = build().decode(together, side, public)
    for row in range(CLIENTS):
        only = slice(row, row + 1)
        assert build().encode(updates[only], public.rows(only)) == together[only]
        alone = build().decode(together[only], side[only], public.rows(only))
        assert torch.equal(alone, decoded[only])


@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_the_planned_scale_is_used_by_both_ends(build, updates, public, scale):
    public = Public(public.seed, public.round, public.clients, torch.full((CLIENTS,), scale))
    side = updates + 0.3 * torch.randn(updates.shape, generator=torch.Generator().manual_seed(1))
    compressor = build(bitrate=4)  # at 2 bits the published quantizer does worse than its side
    estimates = round_trip(compressor, updates, public, side)
    blind = round_trip(compressor, updates, public)
    if not isinstance(compressor, SideInformed) or not scale:
        assert torch.equal(estimates, blind)
    elif isinstance(compressor, DAQ):  # at 1 bit
        assert (estimates - updates).norm() < 0.7 * (blind - updates).norm()
    else:
        assert (estimates - updates).norm() < 0.5 * (side - updates).norm()


@pytest.mark.parametrize("bitrate", BITRATES)
@pytest.mark.parametrize("dim", [1000, 65_537])
def test_measured_bits_are_the_configured_ones(name, bitrate, dim):
    compressor = inner(build_or_skip(name, bitrate))
    public = Public(0, 0, (0,))
    (payload,) = compressor.encode(torch.randn(1, dim), public)
    if bitrate * dim < 64:
        pytest.skip("a few bits do not pay for a single coordinate")
    body_bits = 8 * (len(payload) - FRAME_BYTES)
    assert body_bits <= 1.02 * compressor.bitrate * dim
    if dim > 1000 and name not in DATA_DEPENDENT:  # in shorter ones k is coarse
        assert 8 * len(payload) >= 0.98 * compressor.bitrate * dim
    if name not in FIXED_RATE:
        assert compressor.bitrate == bitrate


@pytest.mark.parametrize("bitrate", [0.02, 1, 2, 2.5, 16])
@pytest.mark.parametrize("dim", [1, 2, 37, 1000])
def test_any_dimension(name, bitrate, dim, public):
    compressor = build_or_skip(name, bitrate)
    estimates = round_trip(compressor, torch.randn(CLIENTS, dim), public)
    assert estimates.shape == (CLIENTS, dim)
    assert estimates.isfinite().all()


def test_a_zero_vector_decodes_to_zero(build, public):
    if build().aggregation == "majority_vote":
        pytest.skip("a sign is never zero")
    assert not round_trip(build(), torch.zeros(CLIENTS, 1000), public).any()


@pytest.mark.parametrize("magnitude", [2.0**-100, 1.0, 2.0**100])
def test_magnitudes(build, updates, public, magnitude):
    """The estimate scales with the update; signs have no magnitude."""
    estimates = round_trip(build(), updates * magnitude, public)
    assert estimates.isfinite().all()
    if build().aggregation != "majority_vote":
        expected = round_trip(build(), updates, public) * magnitude
        error = (estimates - expected).double().norm() / expected.double().norm()
        assert error < 0.05


def test_one_spike_is_found(build, public):
    spike = torch.zeros(CLIENTS, 1000)
    spike[:, 500] = 3.0
    estimates = round_trip(build(), spike, public)
    assert estimates.isfinite().all()
    if isinstance(inner(build()), TernGrad | ScaledSign):  # clipped, or of mean magnitude
        assert (estimates[:, 500] == estimates.amax(dim=1)).all()
    elif not isinstance(inner(build()), RandK | DAQ):  # unbiased, but far off at this rate
        assert estimates[:, 500].mean() > 0.9


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_what_is_not_finite_is_refused(build, updates, public, device, bad):
    updates[1, 3] = bad
    with pytest.raises(wzfl.InputError, match="update of client 0 holds NaN or infinity"):
        build().encode(updates.to(device), public.to(device))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("bitrate", [0.02, 2, 8])
@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("dim", [3, 4096])
def test_all_that_is_encoded_is_decoded(name, public, bitrate, planned, dim):
    compressor = build_or_skip(name, bitrate)
    normal = torch.randn(CLIENTS, dim, generator=torch.Generator().manual_seed(0))
    spike = torch.zeros(CLIENTS, dim)
    spike[:, 1] = 1
    for shape in (normal / normal.abs().max(), torch.ones(CLIENTS, dim), -spike):
        update = shape * LARGEST_MAGNITUDE
        scale = update.double().square().mean(dim=1).sqrt() if planned else torch.zeros(CLIENTS)
        known = replace(public, scale=scale)
        payloads = compressor.encode(update, known)
        assert compressor.decode(payloads, torch.zeros_like(update), known).isfinite().all()
        if name not in {"marina", "terngrad"} and bitrate * dim > 1000:
            assert 8 * max(map(len, payloads)) <= 1.02 * compressor.bitrate * dim + 8 * FRAME_BYTES


@pytest.mark.parametrize("magnitude", [1.001 * LARGEST_MAGNITUDE, 3.4e38])
def test_what_is_too_large_for_a_code_is_refused(build, updates, public, magnitude):
    updates[1, 3] = -magnitude
    if isinstance(build(), Uncompressed):
        decoded = build().decode(build().encode(updates, public), updates, public)
        assert torch.equal(decoded, updates)
        return
    message = rf"update of client 0 has a magnitude of {magnitude:.3g}, expected at most 8.11e\+31"
    with pytest.raises(wzfl.InputError, match=message.replace("e+", r"e\+")):
        build().encode(updates, public)


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        (torch.zeros(2, 5), "got 2 updates for 3 clients"),
        (torch.zeros(5), r"must be floating point \[clients, dim\]"),
        (torch.zeros(3, 5, dtype=torch.int32), r"must be floating point \[clients, dim\]"),
        (torch.zeros(3, 5).numpy(), "updates must be a torch tensor; got ndarray"),
        (torch.zeros(3, 5, device="meta"), "updates are on meta, public on cpu"),
        (torch.zeros(3, 5).to_sparse(), "updates must be dense; got layout torch.sparse_coo"),
    ],
)
def test_updates_of_the_wrong_kind_are_refused(build, public, updates, message):
    with pytest.raises(wzfl.InputError, match=message):
        build().encode(updates, public)


@pytest.mark.parametrize("planned", [0.0, 0.3])
def test_a_view_that_torch_is_still_to_negate_is_read_as_its_values(
    build, updates, public, planned
):
    public = replace(public, scale=torch.full((CLIENTS,), planned))
    lazy = torch.complex(torch.zeros_like(updates), -updates).conj().imag
    assert lazy.is_neg()
    payloads = build().encode(updates, public)
    assert build().encode(lazy, public) == payloads
    estimates = build().decode(payloads, updates, public)
    assert torch.equal(build().decode(payloads, lazy, public), estimates)


@pytest.mark.parametrize("planned", [0.0, 0.3])
def test_8_bits_are_read_as_float32(build, updates, public, planned):
    public = replace(public, scale=torch.full((CLIENTS,), planned))
    short = updates.to(torch.float8_e4m3fn)
    payloads = build().encode(short.float(), public)
    assert build().encode(short, public) == payloads
    estimates = build().decode(payloads, short.float(), public)
    assert torch.equal(build().decode(payloads, short, public), estimates)


def test_bfloat16_gives_the_same_bytes(build, updates, public):
    short = updates.bfloat16()
    assert build().encode(short, public) == build().encode(short.float(), public)


@NEEDS_GPU
@pytest.mark.parametrize("dim", [1000, 65_537])
def test_a_gpu_gives_the_same_bytes(build, public, dim):
    updates = torch.randn(CLIENTS, dim)
    payloads = build().encode(updates, public)
    assert payloads == build().encode(updates.cuda(), public.to("cuda"))
    side = updates.roll(1, dims=0)
    on_gpu = build().decode(payloads, side.cuda(), public.to("cuda")).cpu()
    torch.testing.assert_close(on_gpu, build().decode(payloads, side, public))


def test_a_damaged_payload_is_refused_as_such_whatever_it_decodes_to(public):
    """Also where that is found out last."""

    def refuse():
        raise wzfl.PayloadError("damaged")

    estimates = torch.zeros(CLIENTS, 2)
    estimates[1] = torch.nan
    with pytest.raises(wzfl.PayloadError, match="damaged"):
        finite(estimates, public, meanwhile=refuse)
    client = public.clients[1]
    with pytest.raises(wzfl.PayloadError, match=f"payload of client {client}: decodes to values"):
        finite(estimates, public, meanwhile=lambda: None)


@NEEDS_GPU
def test_what_a_gpu_reads_is_checked(build, updates, public):
    """Also where it computes before the host has looked at all of a payload."""
    planned = replace(public, scale=torch.ones(CLIENTS)).to("cuda")
    side = torch.zeros_like(updates).cuda()
    first, *others = build().encode(updates.cuda(), planned)
    for position in range(0, len(first), max(1, len(first) // 20)):
        flipped = bytearray(first)
        flipped[position] ^= 0x10
        with pytest.raises(wzfl.PayloadError, match="payload of client 4"):
            build().decode([bytes(flipped), *others], side, planned)


@pytest.mark.parametrize("bitrate", [0.5, 2, 2.5])
def test_unbiased_where_claimed(name, bitrate):
    compressor = wzfl.build_compressor(name, bitrate=bitrate)
    if not compressor.unbiased:
        pytest.skip(f"{name} does not claim it")
    # EDEN is unbiased as far as rotated vectors look Gaussian, QSGD's search as far as levels are many.
    long = isinstance(inner(compressor), Eden | QSGDElias)
    draws, dim = (400, 1000) if long or name == "correlated" else (3000, 24)
    update = torch.randn(dim, generator=torch.Generator().manual_seed(0)).expand(draws, -1)
    if name == "correlated":  # clients of one round are not independent
        rounds = [Public(0, round, (0,)) for round in range(draws)]
        estimates = torch.cat([round_trip(compressor, update[:1], public) for public in rounds])
    else:
        # Cells so large that none overflows; 0 is the client's own scale.
        planned = 3.0 if name in ("wyner_ziv", "wyner_ziv_trellis") else 0.0
        public = Public(0, 2, tuple(range(draws)), torch.full((draws,), planned))
        estimates = round_trip(compressor, update, public)
    errors = estimates.mean(dim=0) - update[0]
    standard_errors = estimates.std(dim=0) / draws**0.5
    # A coordinate near zero may round away from it so rarely that these draws do not show it.
    tolerance = 4.5 * standard_errors.clamp_min(standard_errors.median())
    assert (errors.abs() <= tolerance + 1e-5).all()


def test_damaged_and_foreign_payloads_are_refused(build, updates, public):
    compressor, side = build(), torch.zeros_like(updates)
    payloads = compressor.encode(updates, public)
    first = payloads[0]
    damaged = [first[:-1], first + b"\0", first[:5], b"", first[::-1]]
    for position in range(0, len(first), max(1, len(first) // 60)):
        flipped = bytearray(first)
        flipped[position] ^= 0x10
        damaged.append(bytes(flipped))
    for payload in damaged:
        with pytest.raises(wzfl.PayloadError, match="payload of client 4"):
            compressor.decode([payload, *payloads[1:]], side, public)
    another_round = Public(public.seed, public.round + 1, public.clients)
    swapped = Public(public.seed, public.round, (public.clients[1], 4, 9))
    for wrong in (another_round, swapped):
        with pytest.raises(wzfl.PayloadError):
            compressor.decode(payloads, side, wrong)
    with pytest.raises(wzfl.PayloadError):
        compressor.decode(payloads, side[:, 1:], public)
    with pytest.raises(wzfl.PayloadError, match="got 2 payloads for 3 clients"):
        compressor.decode(payloads[:2], side, public)


def test_another_setting_can_not_read_it(name, updates, public):
    if name in FIXED_RATE:
        pytest.skip("has no setting")
    payloads = wzfl.build_compressor(name, bitrate=2).encode(updates, public)
    with pytest.raises(wzfl.PayloadError):
        wzfl.build_compressor(name, bitrate=3).decode(payloads, torch.zeros_like(updates), public)


def test_the_wire_format_is_fixed(name):
    """A golden payload; to change its layout is a breaking change that raises the frame's version.

    What only its checksum covers more of, older code refuses without that.
    """
    update = torch.tensor([[0.5, -1.0, 0.25, 3.0, -0.125, 0.0, 2.0, -0.75]])
    (payload,) = wzfl.build_compressor(name, bitrate=4).encode(update, Public(1, 2, (3,)))
    if name not in GOLDEN:
        pytest.skip(f'to hold {name} to its format, add "{name}": "{payload.hex()}" to GOLDEN')
    assert payload.hex() == GOLDEN[name]


def test_every_compressor_that_git_tracks_is_held_to_its_wire_format():
    tracked = ["git", "ls-files", "--error-unmatch", "*.yaml"]
    try:
        listed = subprocess.check_output(tracked, cwd=conf_dir() / "compressor", text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a checkout")
    assert sorted(GOLDEN) == sorted(Path(line).stem for line in listed.splitlines())


def test_wire_ids_are_unique():
    compressors = {
        type(inner(wzfl.build_compressor(name))): inner(wzfl.build_compressor(name))
        for name in NAMES
    }
    ids = [compressor.wire_id for compressor in compressors.values()]
    assert len(set(ids)) == len(ids)


def inner(compressor):
    return compressor.compressor if isinstance(compressor, ClientMemory) else compressor


@pytest.mark.parametrize(
    ("bitrate", "wrong"),
    [
        *((value, "is out of range") for value in (0, 0.019, 16.1, -1)),
        (float("nan"), "finite number"),
    ],
)
def test_a_bitrate_out_of_range_is_refused(name, bitrate, wrong):
    if name in FIXED_RATE:
        pytest.skip("takes no bitrate")
    with pytest.raises(wzfl.InputError, match=f"{wrong}.*conf/compressor/{name}.yaml"):
        wzfl.build_compressor(name, bitrate=bitrate)


def test_settings_may_be_numpy_s_numbers():
    built = wzfl.build_compressor("slepian_wolf", bitrate=np.float64(2.5), block=np.int64(4096))
    assert built == wzfl.build_compressor("slepian_wolf", bitrate=2.5, block=4096)


def test_an_unknown_compressor_is_named_with_the_known_ones():
    with pytest.raises(wzfl.InputError, match=r"no compressor 'gzip'; there are .*wyner_ziv"):
        wzfl.build_compressor("gzip")


def test_the_frame_is_the_only_overhead_of_float32(updates, public):
    payloads = wzfl.build_compressor("none").encode(updates, public)
    assert {len(payload) for payload in payloads} == {4 * 1000 + OVERHEAD_BYTES}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["none", "qsgd", "qsgd_elias", "topk", "wyner_ziv"])
def test_a_payload_that_is_sealed_well_but_not_finite_is_refused(name, bad):
    """What a faulty client could seal: its first float, a value or a scale, is not finite."""
    compressor = inner(wzfl.build_compressor(name, bitrate=2))
    public, update = Public(0, 0, (0,)), torch.randn(1, 100)
    (body,) = open_rows(compressor, compressor.encode(update, public), 100, public)
    forged = seal_rows(compressor, [struct.pack("<f", bad) + bytes(body[4:])], 100, public)
    with pytest.raises(wzfl.PayloadError, match="NaN or infinite"):
        compressor.decode(forged, torch.zeros(1, 100), public)


@pytest.mark.parametrize("change", [lambda body: body[:-1], lambda body: b"\xff" * len(body)])
def test_whose_payload_is_refused_is_said_where_it_is_sealed_well(build, updates, public, change):
    """Of a body that is too short, and where it can be of no vector, of one of ones."""
    compressor = inner(build())
    bodies = open_rows(compressor, compressor.encode(updates, public), 1000, public)
    some = [bodies[0], change(bytes(bodies[1])), bodies[2]]
    forged = seal_rows(compressor, some, 1000, public)
    if refusals := list(refusal_of(compressor, forged, public)):
        assert refusals[0].startswith("payload of client 0: ")
    else:
        assert len(some[1]) == len(bodies[1])  # bits that mean something


def refusal_of(compressor, payloads, public):
    """What the decoder says of payloads, if it refuses them."""
    try:
        compressor.decode(payloads, torch.zeros(CLIENTS, 1000), public)
    except wzfl.PayloadError as error:
        yield str(error)


def test_a_byte_that_is_no_five_symbols_is_refused():
    compressor, public = TernGrad(coding="packed"), Public(0, 0, (0,))
    (body,) = open_rows(compressor, compressor.encode(torch.ones(1, 9), public), 9, public)
    (forged,) = seal_rows(compressor, [bytes(body[:-1]) + b"\xf3"], 9, public)
    with pytest.raises(wzfl.PayloadError, match="got byte 243; five symbols are at most 242"):
        compressor.decode([forged], torch.zeros(1, 9), public)
