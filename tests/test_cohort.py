"""However the updates of several clients are computed, they are those of the plain loop."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector

import wzfl.cohort
import wzfl.cohort.layers
from wzfl.client import FedAvg, FedSGD, FullGradient, Shard, update_by_autograd
from wzfl.cohort import Cohort, shared_pass
from wzfl.models import Model, cnn, logistic, mlp, resnet

SHAPE = (2, 8, 8)


def without_biases():
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(128, 9, bias=False)),
        *(nn.ReLU(), nn.Linear(9, 5, bias=False)),
    )


def without_a_relu_between():
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(128, 9), nn.Linear(9, 7)), *(nn.ReLU(), nn.Linear(7, 5))
    )


MODELS = {
    "logistic": logistic(SHAPE, 5),
    "mlp": mlp(SHAPE, 5, [12, 9]),
    "cnn": cnn(SHAPE, 5),
    "resnet": resnet(SHAPE, 5, width=8, blocks=1),
    "without_biases": Model(without_biases),
    "without_a_relu_between": Model(without_a_relu_between),
}
WORKS = {
    "fedsgd": FedSGD(batch_size=7),
    "fedsgd_l2": FedSGD(batch_size=7, l2=0.1),
    "full_gradient": FullGradient(l2=0.1),
    "fedavg": FedAvg(epochs=2, batch_size=7, lr=0.1),
    "fedavg_l2": FedAvg(epochs=1, batch_size=4, lr=0.1, l2=0.1),
}


@pytest.fixture
def shards():
    """Of uneven sizes, one smaller than a batch."""
    generator = torch.Generator().manual_seed(0)
    return [
        Shard(
            torch.randn(size, *SHAPE, generator=generator),
            torch.randint(0, 5, (size,), generator=generator),
        )
        for size in (20, 3, 31, 14, 20)
    ]


def together_or_apart(cohort):
    """Updates and losses, by the cohort's groups."""
    parts = [cohort.rows(rows).updates() for rows in cohort.groups()]
    return [torch.cat(values) for values in zip(*parts, strict=True)]


@pytest.mark.usefixtures("threads", "blas")
@pytest.mark.parametrize("together", [1, 2, 100])
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_updates_are_those_of_the_plain_loop(monkeypatch, shards, model, work, together):
    monkeypatch.setattr(wzfl.cohort, "_evenly", lambda clients, most: min(clients, together))
    weights = model.init(3)
    cohort = Cohort.with_seeds(work, model, weights, shards, range(10, 15))
    updates, losses = together_or_apart(cohort)
    for row, shard in enumerate(shards):
        schedule = work.schedule(len(shard.y), row + 10)
        update, loss = update_by_autograd(work, model, weights, shard, schedule)
        scale = float(update.abs().max())
        torch.testing.assert_close(updates[row], update, rtol=0, atol=1e-5 * scale)
        torch.testing.assert_close(losses[row], loss, rtol=1e-5, atol=1e-6)


def test_they_are_grouped_by_what_they_take(monkeypatch, shards):
    """All five, or as many as the budgets have floats for, evenly."""
    model = MODELS["mlp"]
    cohort = Cohort.with_seeds(FedSGD(7), model, model.init(0), shards, range(5))
    assert cohort.groups() == [slice(0, 5)]
    activations = 3 * 7 * (128 + 128 + 12 + 12 + 9 + 9 + 5)
    monkeypatch.setitem(shared_pass.BUDGET, "cpu", activations)
    assert cohort.groups() == [slice(0, 3), slice(3, 5)]
    monkeypatch.setitem(wzfl.cohort._UPDATES, "cpu", model.dim)
    assert [rows.stop - rows.start for rows in cohort.groups()] == [1] * 5


@pytest.mark.usefixtures("blas")
def test_what_is_not_a_number_reaches_the_update(shards):
    model = MODELS["mlp"]
    weights = model.init(0)
    weights[5] = torch.nan
    updates, losses = Cohort.with_seeds(FedSGD(7), model, weights, shards, range(5)).updates()
    assert updates.isnan().any(dim=1).all()
    assert losses.isnan().all()


@pytest.mark.usefixtures("blas")
@pytest.mark.parametrize("label", [-1, 5])
def test_a_label_of_no_class_is_refused(shards, label):
    model = MODELS["mlp"]
    wrong = Shard(shards[0].x, torch.full_like(shards[0].y, label))
    with pytest.raises(IndexError):
        Cohort.with_seeds(FedSGD(7), model, model.init(0), [wrong], [0]).updates()


@pytest.mark.usefixtures("blas")
@pytest.mark.parametrize("widths", [(128, 9, 8), (127, 9, 9)])
def test_layers_that_do_not_fit_are_refused(widths):
    """A product in memory of any shape would read what is beside it."""
    inputs, given, taken = widths
    network = nn.Sequential(nn.Linear(inputs, given), nn.ReLU(), nn.Linear(taken, 5))
    weights = parameters_to_vector(network.parameters()).detach()
    with pytest.raises((ValueError, RuntimeError)):
        shared_pass.gradients(
            network, weights, torch.ones(3, 128), torch.arange(3), [3], torch.empty(1, len(weights))
        )


@pytest.mark.usefixtures("blas")
def test_a_dense_network_of_float64_is_left_to_torch():
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    x, y = torch.randn(5, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    functional.cross_entropy(network(x), y).backward()
    expected = torch.cat([part.grad.flatten() for part in network.parameters()])
    weights = parameters_to_vector(network.parameters()).detach()
    out = torch.empty(1, len(weights), dtype=torch.float64)
    shared_pass.gradients(network, weights, x, y, [5], out)
    torch.testing.assert_close(out[0], expected)


def test_bfloat16_is_near(shards):
    model = MODELS["mlp"]
    weights = model.init(0)
    exact, narrow = (
        Cohort.with_seeds(
            FullGradient(precision=precision), model, weights, shards, range(5)
        ).updates()[0]
        for precision in ("float32", "bfloat16")
    )
    error = float((narrow - exact).norm() / exact.norm())
    assert 1e-4 < error < 0.05


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": 2},
        {"stride": 2},
        {"stride": (2, 3), "padding": (1, 0)},
        {"dilation": 2, "padding": 3},
        {"stride": 3, "dilation": (1, 2)},
        {"bias": False},
    ],
)
def test_convolutions_of_any_shape_have_the_gradients_of_autograd(channels, settings):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 4, (3, 5), **settings)
    network = nn.Sequential(layer, nn.ReLU(), nn.Flatten())
    x, y = torch.randn(6, channels, 13, 16), torch.arange(6)
    weights = parameters_to_vector(network.parameters()).detach()
    functional.cross_entropy(network(x), y).backward()
    expected = torch.cat([part.grad.flatten() for part in network.parameters()])
    out = torch.empty(1, len(weights))
    shared_pass.gradients(network, weights, x, y, [6], out)
    torch.testing.assert_close(out[0], expected)


@pytest.mark.usefixtures("blas")
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_a_step_in_place_is_that_of_autograd(monkeypatch, l2, fast):
    """Whichever way convolutions take; their input gradients are of the weights before the step."""
    monkeypatch.setattr(wzfl.cohort.layers, "is_faster", lambda layer, x: fast)
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1, bias=False)),
        *(nn.MaxPool2d(2), nn.Conv2d(4, 2, 3, padding=1), nn.Flatten(), nn.Linear(18, 6)),
    )
    x, y = torch.randn(6, 1, 8, 9), torch.arange(6)
    weights = parameters_to_vector(network.parameters()).detach()
    expected_loss = functional.cross_entropy(network(x), y)
    expected_loss.backward()
    grad = torch.cat([part.grad.flatten() for part in network.parameters()])
    expected = weights - 0.3 * (grad + l2 * weights)
    penalty = l2 / 2 * weights.square().sum()
    loss = shared_pass.descend(network, weights, [(x, y)], lr=0.3, l2=l2)
    torch.testing.assert_close(loss, expected_loss.detach() + penalty)
    torch.testing.assert_close(weights, expected)
