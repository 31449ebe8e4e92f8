"""Compressors whose clients remember, and what the server remembers for them."""

import pytest
import torch
from test_compressors import NAMES

import wzfl
from wzfl.compressors import SideInformed
from wzfl.compressors.eden import Eden
from wzfl.compressors.qsgd import QSGD
from wzfl.compressors.topk import TopK
from wzfl.compressors.wyner_ziv import WynerZiv
from wzfl.difference import EF21, Diana, Marina
from wzfl.feedback import ClientMemory, ErrorFeedback, ServerMemory
from wzfl.public import Public

CPU = torch.device("cpu")
MEMORYLESS = [
    name
    for name in NAMES
    if not isinstance(wzfl.build_compressor(name), SideInformed | ClientMemory)
]
DIM = 2000


def talk(compressor, updates, rounds):
    """Yields what the server estimates of `updates` [rounds or 1, clients, dim], round by round.

    Whoever made updates and estimates uses their memory again.
    """
    clients = updates.shape[1]
    theirs = compressor.init(clients, DIM, CPU)
    ours = compressor.init(clients, DIM, CPU)
    for number in range(1, rounds + 1):
        public = Public(0, number, range(clients))
        current = updates[min(number, len(updates)) - 1].clone()
        sent = compressor.before(theirs, current, public)
        payloads = compressor.encode(sent, public)
        decoded = compressor.decode(payloads, torch.zeros_like(current), public)
        theirs = compressor.after(theirs, current, sent, decoded, public)
        estimates = decoded
        if isinstance(compressor, ServerMemory):
            estimates, ours = compressor.received(ours, decoded, public)
        current.detach().zero_()
        yield estimates, theirs, ours
        estimates.zero_()


def constant(clients=2):
    return torch.randn(1, clients, DIM, generator=torch.Generator().manual_seed(0))


def relative(estimates, updates):
    return float((estimates - updates).norm() / updates.norm())


@pytest.mark.parametrize(
    "compressor",
    [
        *(ErrorFeedback(wzfl.build_compressor(name)) for name in MEMORYLESS),
        *(ErrorFeedback(TopK(2, value_bits=bits)) for bits in (2, 8, 16, 32)),
        *(Marina(TopK(1), full_rate=rate) for rate in (0, 1)),
    ],
    ids=lambda compressor: type(compressor.compressor).__name__,
)
def test_clients_know_what_the_server_reads(compressor):
    """A client need not ask the decoder for it."""
    updates, public = constant()[0], Public(0, 2, range(2))
    payloads, decoded = compressor.encode_and_decode(updates, public)
    assert payloads == compressor.encode(updates, public)
    nothing = torch.zeros(1, 1).expand_as(updates)
    assert torch.equal(decoded, compressor.decode(payloads, nothing, public))


def test_error_feedback_sends_in_the_end_what_was_lost():
    """The sum of estimates follows the sum of updates to within the memory."""
    updates, received = constant(), 0
    feedback = ErrorFeedback(TopK(2))
    assert not isinstance(feedback, ServerMemory)  # the server keeps nothing
    for number, (estimates, memory, _) in enumerate(talk(feedback, updates, 40), 1):
        received = received + estimates
        total = number * updates[0]
        torch.testing.assert_close(received + memory, total, rtol=1e-4, atol=1e-4)
    assert relative(received / 40, updates[0]) < 0.2


@pytest.mark.parametrize("name", MEMORYLESS)
def test_error_feedback_wraps_any_compressor_that_clients_can_decode(name):
    compressor, received = ErrorFeedback(wzfl.build_compressor(name, bitrate=2)), 0
    for number, (estimates, memory, _) in enumerate(talk(compressor, constant(), 3), 1):
        received = received + estimates
        torch.testing.assert_close(received + memory, number * constant()[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bitrate", [0.5, 1, 2])
@pytest.mark.parametrize("inner", [Eden, QSGD])
def test_diana_learns_a_constant_update(bitrate, inner):
    """Its error vanishes, where a memoryless code's stays; both ends hold the same."""
    compressor = Diana(inner(bitrate), alpha=None if inner is Eden else 0.1)
    updates = constant()
    errors = []
    for estimates, theirs, ours in talk(compressor, updates, 150):
        errors.append(relative(estimates, updates[0]))
        assert torch.equal(theirs, ours)
    assert errors[-1] < 0.02 * errors[0]


def test_ef21_learns_a_constant_update():
    updates = constant()
    for estimates, theirs, ours in talk(EF21(TopK(1)), updates, 150):
        error = relative(estimates, updates[0])
        assert torch.equal(theirs, ours)
        assert torch.equal(estimates, ours)
    assert error < 0.01


def test_marina_follows_small_changes_and_starts_anew_in_full_rounds():
    steps = 0.01 * torch.randn(60, 2, DIM, generator=torch.Generator().manual_seed(1))
    updates = constant() + steps.cumsum(dim=0)
    compressor = Marina(Eden(1), full_rate=0.1)
    full = []
    talking = enumerate(talk(compressor, updates, 60), start=1)
    for number, (estimates, theirs, ours) in talking:
        assert torch.equal(theirs, updates[number - 1])
        torch.testing.assert_close(ours, estimates)
        error = relative(estimates, updates[number - 1])
        if compressor._is_full(Public(0, number, (0,))):
            full.append(number)
            assert error == 0
        assert error < 0.1
    assert full[0] == 1
    assert 2 <= len(full) <= 15


def test_marina_states_the_mean_rate():
    compressor = wzfl.build_compressor("marina", bitrate=2)
    assert compressor.bitrate == pytest.approx(2 + 2 - 2 / 16)
    updates, bits = constant(1), 0
    for number in range(2, 602):
        public = Public(0, number, (0,))
        bits += 8 * len(compressor.encode(updates[0], public)[0])
    assert bits / 600 / DIM == pytest.approx(compressor.bitrate, rel=0.3)


@pytest.mark.parametrize("name", ["topk", "ef21", "diana", "marina"])
def test_a_memory_keeps_no_graph_of_updates_that_require_grad(name):
    """Else it would keep alive the parameters of every round."""
    weights = torch.zeros(2, DIM, requires_grad=True)
    talking = talk(wzfl.build_compressor(name), constant() - weights, 3)
    for estimates, theirs, ours in talking:
        assert not any(each.requires_grad for each in (estimates, theirs, ours))


@pytest.mark.parametrize("wrapper", [ErrorFeedback, EF21, Diana, Marina])
def test_clients_must_be_able_to_decode(wrapper):
    with pytest.raises(wzfl.InputError, match="can not wrap WynerZiv"):
        wrapper(WynerZiv(2))


def test_diana_needs_a_step_where_the_variance_is_not_stated():
    with pytest.raises(wzfl.InputError, match="QSGD does not state its relative variance"):
        Diana(QSGD(2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Diana(Eden(1)), Marina(Eden(1))),
        (Diana(Eden(1)), Eden(1)),
        (Eden(1), Marina(Eden(1))),
        (EF21(TopK(1)), ErrorFeedback(TopK(1))),
        (Diana(Eden(1), alpha=0.1), Diana(Eden(1), alpha=0.9)),
        (Marina(Eden(1), full_rate=0.01), Marina(Eden(1), full_rate=0)),
        (Diana(Eden(1), alpha=1), Diana(Diana(Eden(1), alpha=1), alpha=1)),
    ],
)
def test_a_payload_of_another_memory_is_refused(one, other):
    """Its kind and settings are agreed upon, as those of what it wraps are, and change no other byte."""
    updates, public = constant()[0], Public(0, 2, range(2))
    payloads, theirs = one.encode(updates, public), other.encode(updates, public)
    assert [payload[:-4] for payload in payloads] == [payload[:-4] for payload in theirs]
    with pytest.raises(wzfl.PayloadError, match=r"another client, round, scale or .* setting$"):
        other.decode(payloads, torch.zeros_like(updates), public)


def test_a_setting_is_the_same_as_an_integer():
    updates, public = constant()[0], Public(0, 2, range(2))
    payloads = Diana(Eden(1), alpha=1).encode(updates, public)
    assert payloads == Diana(Eden(1.0), alpha=1.0).encode(updates, public)


@pytest.mark.parametrize("wrapper", [ErrorFeedback, EF21])
def test_what_has_a_memory_sends_payloads_of_what_it_wraps(wrapper):
    wrapped = TopK(2)
    assert wrapper(wrapped).wire_id == wrapped.wire_id
    assert wrapper(wrapped).bitrate == wrapped.bitrate
