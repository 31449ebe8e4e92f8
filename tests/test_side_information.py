import pytest
import torch

from wzfl import InputError
from wzfl.compressors.wyner_ziv import WynerZiv
from wzfl.learned import Learned
from wzfl.linear import Linear
from wzfl.public import Public
from wzfl.side_information import Decoded, Fixed, Last, Mean, Zero

CPU = torch.device("cpu")
CLIENTS = torch.tensor([2, 0])
NONE_FAILED = torch.zeros(2, dtype=torch.bool)


def learn(policy, memory, clients, estimates, failed, gain):
    """What a policy learns in a round from estimates."""
    expected = policy.predict(memory, clients)
    policy.learn(memory, Decoded(clients, expected, estimates, failed, gain))


@pytest.mark.parametrize("policy", [Last(), Mean(), Linear(), Learned(), Fixed()])
@pytest.mark.parametrize(
    ("clients", "message"),
    [
        (torch.tensor([0, 3]), r"clients must be 0 to 2, .*; got \[0, 3\]"),
        (torch.tensor([-1]), r"clients must be 0 to 2, .*; got \[-1\]"),
        ([0, 1], r"clients must be an int64 tensor \[clients\]; got \[0, 1\]"),
        (torch.tensor([0.0]), r"clients must be an int64 tensor \[clients\]; got tensor"),
    ],
)
def test_clients_are_those_of_the_memory(policy, clients, message):
    memory = policy.init(3, 5, CPU)
    with pytest.raises(InputError, match=message):
        policy.plan(memory, clients)
    if not isinstance(policy, Mean):  # who expects the same of all
        with pytest.raises(InputError, match=message):
            policy.predict(memory, clients)


def test_zero_expects_and_plans_nothing():
    policy = Zero()
    memory = policy.init(3, 5, CPU)
    learn(policy, memory, CLIENTS, torch.ones(2, 5), NONE_FAILED, gain=1.0)
    policy.finish(memory, torch.ones(5), 2, gain=1.0)
    assert not policy.broadcasts_scale
    assert policy.plan(memory, CLIENTS).tolist() == [0, 0]
    assert torch.equal(policy.predict(memory, CLIENTS), torch.zeros(2, 5))


def test_last_remembers_each_client_and_leaves_the_others():
    policy = Last(margin=2.0)
    memory = policy.init(3, 4, CPU)
    first = torch.tensor([[1.0, 1, 1, 1], [2, 2, 2, 2]])
    assert policy.plan(memory, CLIENTS).tolist() == [0, 0]
    learn(policy, memory, CLIENTS, first, NONE_FAILED, gain=1.0)
    assert torch.equal(policy.predict(memory, CLIENTS), first)
    assert torch.equal(policy.predict(memory, torch.tensor([1])), torch.zeros(1, 4))
    assert policy.plan(memory, torch.tensor([0, 1, 2])).tolist() == [4, 0, 2]


def test_a_noisy_code_is_damped_and_its_noise_not_taken_for_distance():
    policy = Last(margin=1.0)
    memory = policy.init(3, 4, CPU)
    policy.plan(memory, CLIENTS)
    learn(policy, memory, CLIENTS, torch.ones(2, 4), NONE_FAILED, gain=4.0)
    assert torch.equal(policy.predict(memory, CLIENTS), torch.full((2, 4), 0.25))
    assert policy.plan(memory, CLIENTS).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("gain", [1.0, 8.0])
@pytest.mark.parametrize("policy", [Last(step=0.25), Mean(step=0.25), Linear(step=0.25)])
def test_a_step_that_is_given_is_taken_whatever_the_code(policy, gain):
    memory = policy.init(3, 4, CPU)
    policy.plan(memory, CLIENTS)
    learn(policy, memory, CLIENTS, torch.ones(2, 4), NONE_FAILED, gain)
    policy.finish(memory, torch.ones(4), 2, gain)
    kept = memory.common if isinstance(policy, Mean) else memory.own.read(CLIENTS.tolist())
    assert torch.equal(kept, torch.full_like(kept, 0.25))


def test_noise_of_a_mean_is_that_of_one_client_over_their_number():
    policy = Mean()
    memory = policy.init(3, 4, CPU)
    policy.finish(memory, torch.ones(4), 2, gain=3.0)
    assert torch.equal(memory.common, torch.full((4,), 0.5))
    memory.common.zero_()
    policy.finish(memory, torch.ones(4), 4, gain=13.0)
    assert torch.equal(memory.common, torch.full((4,), 0.25))


@pytest.mark.parametrize("policy", [Last(margin=1.0), Mean(margin=1.0)])
def test_twice_as_much_is_planned_after_a_failure(policy):
    memory = policy.init(3, 4, CPU)
    policy.plan(memory, CLIENTS)
    learn(policy, memory, CLIENTS, torch.ones(2, 4), NONE_FAILED, gain=1.0)
    side, failed = policy.predict(memory, CLIENTS), torch.tensor([True, False])
    learn(policy, memory, CLIENTS, side + 5, failed, gain=1.0)
    assert policy.plan(memory, CLIENTS).tolist() == [2, 5]


def test_a_fixed_scale_is_planned_whatever_happens_and_told_to_nobody():
    policy = Fixed(scale=0.25)
    memory = policy.init(3, 4, CPU)
    assert not policy.broadcasts_scale
    for failed in (NONE_FAILED, ~NONE_FAILED):
        assert policy.plan(memory, CLIENTS).tolist() == [0.25, 0.25]
        learn(policy, memory, CLIENTS, torch.full((2, 4), 3.0), failed, gain=1.0)
    assert torch.equal(policy.predict(memory, CLIENTS), torch.full((2, 4), 3.0))


@pytest.mark.parametrize("settings", [{"scale": 0.0}, {"scale": 0.1, "sketch": 8}])
def test_a_fixed_scale_is_positive_and_not_measured(settings):
    with pytest.raises(InputError, match="side_information"):
        Fixed(**settings)


def test_mean_expects_the_same_of_all():
    policy = Mean(margin=1.0)
    memory = policy.init(3, 2, CPU)
    estimates = torch.tensor([[1.0, 1], [3, 3]])
    learn(policy, memory, CLIENTS, estimates, NONE_FAILED, gain=1.0)
    policy.finish(memory, estimates.mean(dim=0), 2, gain=1.0)
    assert torch.equal(policy.predict(memory, torch.arange(3)), torch.full((3, 2), 2.0))
    assert policy.plan(memory, torch.arange(3)).tolist() == [3, 0, 1]


@pytest.mark.parametrize("bitrate", [0.1, 0.5, 2])
@pytest.mark.parametrize("estimator", ["plain", "wiener", "posterior_mean"])
def test_the_loop_is_stable_and_finds_a_constant_update(bitrate, estimator):
    """Side information made of decoded updates converges, also where the code's noise exceeds 1."""
    compressor, policy, dim = WynerZiv(bitrate, estimator=estimator), Last(), 2000
    update = torch.randn(1, dim, generator=torch.Generator().manual_seed(0))
    memory, client = policy.init(1, dim, CPU), torch.tensor([0])
    gain = compressor.residual_gain(dim, policy.margin)
    rounds = round(40 / min(1, bitrate))
    for number in range(rounds):
        public = Public(0, number, (0,), policy.plan(memory, client))
        side = policy.predict(memory, client)
        estimate = compressor.decode(compressor.encode(update, public), side, public)
        learn(policy, memory, client, estimate, NONE_FAILED[:1], gain)
    assert (policy.predict(memory, client) - update).norm() < 0.05 * update.norm()


@pytest.mark.parametrize("settings", [{"margin": 0}, {"step": 0}, {"step": 1.5}])
def test_unusable_settings_are_refused(settings):
    for policy in (Last, Mean):
        with pytest.raises(InputError, match="margin above 0 and a step"):
            policy(**settings)


@pytest.mark.parametrize("policy", [Mean, Linear])
def test_less_than_one_wave_is_refused(policy):
    with pytest.raises(InputError, match="waves must be at least 1; got 0"):
        policy(waves=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "int4"}, "float32, bfloat16, int8; got 'int4'"),
        ({"capacity": 0}, "at least 1, or null for all clients; got 0"),
        ({"capacity": "5"}, "at least 1, or null for all clients; got '5'"),
        ({"sketch": 2.5}, "a whole number of floats; got 2.5"),
    ],
)
def test_memory_that_can_not_be_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Last(**settings)


@pytest.mark.parametrize(
    ("precision", "bytes_each"), [("float32", 4), ("bfloat16", 2), ("int8", 1)]
)
def test_narrow_memory_takes_less_and_is_nearly_the_same(precision, bytes_each):
    policy, dim = Last(precision=precision, margin=1.0), 2570
    vectors = torch.randn(2, dim, generator=torch.Generator().manual_seed(0))
    memory = policy.init(3, dim, CPU)
    policy.plan(memory, CLIENTS)
    for _ in range(30):
        learn(policy, memory, CLIENTS, vectors, NONE_FAILED, gain=2.0)
    error = (policy.predict(memory, CLIENTS) - vectors).norm() / vectors.norm()
    assert float(error) < {"float32": 1e-6, "bfloat16": 1e-2, "int8": 2e-2}[precision]
    allocated = sum(part.nbytes for slab in memory.own.contents()["slabs"] for part in slab)
    assert allocated <= 3 * (bytes_each * dim + 4 * dim / 256 + 300)


def test_who_was_not_heard_of_for_longest_is_forgotten():
    policy = Last(margin=1.0, capacity=2)
    memory, nobody = policy.init(4, 3, CPU), torch.zeros(1, dtype=torch.bool)
    for client in (0, 1, 0, 2):
        clients = torch.tensor([client])
        policy.plan(memory, clients)
        learn(policy, memory, clients, torch.full((1, 3), client + 1.0), nobody, gain=1.0)
    remembered = policy.predict(memory, torch.arange(4))[:, 0]
    assert remembered.tolist() == [1, 0, 3, 0]
    assert policy.plan(memory, torch.tensor([0, 2])).tolist() == [0, 3]  # 0 had not changed
    assert policy.plan(memory, torch.tensor([1])).tolist() == [0]


def test_more_clients_than_it_remembers_can_take_part():
    policy = Last(margin=1.0, capacity=1)
    memory = policy.init(3, 2, CPU)
    for _ in range(3):
        policy.plan(memory, CLIENTS)
        learn(policy, memory, CLIENTS, torch.ones(2, 2), NONE_FAILED, gain=1.0)
    assert policy.predict(memory, CLIENTS).tolist() == [[0, 0], [1, 1]]


def one_round(policy, memory, client, estimate, gain=1.0):
    """What was planned and expected in a round of one client."""
    clients = torch.tensor([client])
    planned = float(policy.plan(memory, clients))
    expected = policy.predict(memory, clients)[0].clone()
    learn(policy, memory, clients, estimate[None], NONE_FAILED[:1], gain)
    policy.finish(memory, estimate, 1, gain)
    return planned, expected


def test_linear_learns_that_a_client_repeats_itself():
    policy, dim = Linear(margin=1.2), 1000
    memory = policy.init(2, dim, CPU)
    generator = torch.Generator().manual_seed(0)
    update = torch.randn(dim, generator=generator)
    for number in range(8):
        noisy = update + 0.1 * torch.randn(dim, generator=generator)
        planned, expected = one_round(policy, memory, 1, noisy)
        if number == 0:
            assert planned == 0
            assert not expected.any()
    assert float((expected - update).norm() / update.norm()) < 0.15
    assert planned == pytest.approx(1.2 * 0.1 * 2**0.5, rel=0.1)


def test_linear_learns_that_history_says_nothing():
    policy, dim = Linear(), 10_000
    memory, generator = policy.init(1, dim, CPU), torch.Generator().manual_seed(0)
    for _ in range(10):
        planned, expected = one_round(policy, memory, 0, torch.randn(dim, generator=generator))
        assert planned == 0
        assert float(expected.square().mean()) < 0.01


def test_linear_finds_the_mix_of_own_and_common():
    """Updates are half the aggregate of the round before; a client's own past is of no use."""
    policy, dim = Linear(), 10_000
    memory, generator = policy.init(1, dim, CPU), torch.Generator().manual_seed(0)
    for _ in range(10):
        update = 0.5 * memory.common + torch.randn(dim, generator=generator)
        clients = torch.tensor([0])
        policy.plan(memory, clients)
        learn(policy, memory, clients, update[None], NONE_FAILED[:1], 1.0)
        policy.finish(memory, torch.randn(dim, generator=generator), 1, 1.0)
    own, common = policy._weights(memory, clients)[0].tolist()
    assert own == pytest.approx(0, abs=0.05)
    assert common == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("bitrate", [0.1, 0.5, 2])
def test_linear_is_stable_and_finds_a_constant_update(bitrate):
    compressor, policy, dim = WynerZiv(bitrate), Linear(), 5000
    update = torch.randn(dim, generator=torch.Generator().manual_seed(0))
    memory, client = policy.init(1, dim, CPU), torch.tensor([0])
    for number in range(round(60 / min(1, bitrate))):
        public = Public(0, number, (0,), policy.plan(memory, client))
        side = policy.predict(memory, client)
        payloads = compressor.encode(update[None], public)
        estimate, failed = compressor.decode_checked(payloads, side, public)
        gain = compressor.residual_gain(dim, policy.scale_ratio(memory))
        learn(policy, memory, client, estimate, failed, gain)
        policy.finish(memory, estimate[0], 1, gain)
    assert (policy.predict(memory, client)[0] - update).norm() < 0.1 * update.norm()


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_linear_weighs_earlier_rounds_by_its_memory(weight):
    """A client that repeats itself, then turns around: the weights are those of w * 1 and 1 * -1."""
    policy, update = Linear(memory=weight), torch.tensor([1.0, -2, 3])
    memory = policy.init(1, 3, CPU)
    for estimate in (update, update, -update):
        one_round(policy, memory, 0, estimate)
    _, expected = one_round(policy, memory, 0, update)
    torch.testing.assert_close(expected, update * (1 - weight) / (1 + weight), rtol=0.01, atol=0)


@pytest.mark.parametrize("memory", [-0.1, 1.0])
def test_linear_forgets(memory):
    with pytest.raises(InputError, match=r"in \[0, 1\); got"):
        Linear(memory=memory)


def test_the_margin_follows_the_failures():
    policy, dim = Linear(failure_rate=0.05), 100
    memory, clients = policy.init(20, dim, CPU), torch.arange(20)
    estimates = torch.randn(20, dim, generator=torch.Generator().manual_seed(0))
    generator, rates = torch.Generator().manual_seed(1), []
    for _ in range(400):
        policy.plan(memory, clients)
        # A client's residual exceeds the plan where its draw, of median 1, exceeds the margin.
        draws = torch.randn(20, generator=generator).mul(0.3).exp()
        failed = draws > policy.scale_ratio(memory)
        rates.append(float(failed.float().mean()))
        learn(policy, memory, clients, estimates + 1e-3 * draws[:, None], failed, 1.0)
        policy.finish(memory, estimates.mean(dim=0), 20, 1.0)
    assert sum(rates[100:]) / 300 == pytest.approx(0.05, abs=0.015)


def test_linear_learns_nothing_where_nothing_was_read():
    policy = Linear()
    memory, clients = policy.init(2, 4, CPU), torch.tensor([0, 1])
    one_round(policy, memory, 0, torch.ones(4))
    before = policy.predict(memory, clients).clone()
    policy.plan(memory, clients)
    learn(policy, memory, clients, torch.zeros(2, 4), torch.ones(2, dtype=torch.bool), 1.0)
    assert torch.equal(policy.predict(memory, clients), before)


def test_a_fixed_margin_stays():
    policy = Linear(margin=1.5, failure_rate=None)
    memory = policy.init(1, 4, CPU)
    for number in range(6):
        one_round(policy, memory, 0, torch.ones(4) + number % 2)
    assert policy.scale_ratio(memory) == 1.5


@pytest.mark.parametrize("rate", [0, 1])
def test_unusable_failure_rates_are_refused(rate):
    with pytest.raises(InputError, match=r"in \(0, 1\), or null"):
        Linear(failure_rate=rate)
