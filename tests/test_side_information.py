import pytest
import torch

from wzfl import InputError
from wzfl.compressors.wyner_ziv import WynerZiv
from wzfl.public import Public
from wzfl.side_information import Last, Mean, Zero

CPU = torch.device("cpu")
CLIENTS = torch.tensor([2, 0])
NONE_FAILED = torch.zeros(2, dtype=torch.bool)


def test_zero_expects_and_plans_nothing():
    policy = Zero()
    memory = policy.init(3, 5, CPU)
    memory = policy.update(memory, CLIENTS, torch.ones(2, 5), NONE_FAILED, gain=1.0)
    assert not policy.broadcasts_scale
    assert policy.plan(memory, CLIENTS).tolist() == [0, 0]
    assert torch.equal(policy.predict(memory, CLIENTS), torch.zeros(2, 5))


def test_last_remembers_each_client_and_leaves_the_others():
    policy = Last(margin=2.0)
    memory = policy.init(3, 4, CPU)
    first = torch.tensor([[1.0, 1, 1, 1], [2, 2, 2, 2]])
    memory = policy.update(memory, CLIENTS, first, NONE_FAILED, gain=1.0)
    assert torch.equal(policy.predict(memory, CLIENTS), first)
    assert torch.equal(policy.predict(memory, torch.tensor([1])), torch.zeros(1, 4))
    assert policy.plan(memory, torch.tensor([0, 1, 2])).tolist() == [4, 0, 2]


def test_a_noisy_code_is_damped_and_its_noise_not_taken_for_distance():
    policy = Last(margin=1.0)
    memory = policy.update(policy.init(3, 4, CPU), CLIENTS, torch.ones(2, 4), NONE_FAILED, gain=4.0)
    assert torch.equal(policy.predict(memory, CLIENTS), torch.full((2, 4), 0.25))
    assert policy.plan(memory, CLIENTS).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("policy", [Last(margin=1.0), Mean(margin=1.0)])
def test_twice_as_much_is_planned_after_a_failure(policy):
    memory = policy.init(3, 4, CPU)
    memory = policy.update(memory, CLIENTS, torch.ones(2, 4), NONE_FAILED, gain=1.0)
    side, failed = policy.predict(memory, CLIENTS), torch.tensor([True, False])
    memory = policy.update(memory, CLIENTS, side + 5, failed, gain=1.0)
    assert policy.plan(memory, CLIENTS).tolist() == [2, 5]


def test_mean_expects_the_same_of_all():
    policy = Mean(margin=1.0)
    memory = policy.init(3, 2, CPU)
    memory = policy.update(memory, CLIENTS, torch.tensor([[1.0, 1], [3, 3]]), NONE_FAILED, gain=1.0)
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
        side = policy.predict(memory, client)
        public = Public(0, number, (0,), policy.plan(memory, client))
        estimate = compressor.decode(compressor.encode(update, public), side, public)
        memory = policy.update(memory, client, estimate, NONE_FAILED[:1], gain)
    assert (policy.predict(memory, client) - update).norm() < 0.05 * update.norm()


@pytest.mark.parametrize("settings", [{"margin": 0}, {"step": 0}, {"step": 1.5}])
def test_unusable_settings_are_refused(settings):
    for policy in (Last, Mean):
        with pytest.raises(InputError, match="margin above 0 and a step"):
            policy(**settings)
