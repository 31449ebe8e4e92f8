"""Models, partitions, client work, the server, the ledger."""

from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional

from wzfl import InputError, metrics, prepared
from wzfl.client import FedAvg, FedSGD, FullGradient, Shard, batch_seed, update_by_autograd
from wzfl.cohort import Cohort, shared_pass
from wzfl.datasets import digits
from wzfl.ledger import BitLedger
from wzfl.metrics import evaluate, relative_error
from wzfl.models import Model, cnn, logistic, mlp, resnet
from wzfl.partition import IID, ByClass, Dirichlet
from wzfl.server import Aggregate, Server

MNIST = (1, 28, 28)
LABELS = torch.arange(1000) % 10


@pytest.mark.parametrize(
    ("model", "shape", "dim"),
    [
        (logistic(MNIST, 10), MNIST, 7850),
        (mlp(MNIST, 10, [200, 200]), MNIST, 199_210),
        (cnn(MNIST, 10), MNIST, 1_663_370),
        (resnet((3, 32, 32), 10, width=16, blocks=3), (3, 32, 32), 272_282),
        (cnn((1, 8, 8), 10), (1, 8, 8), 188_810),
    ],
)
def test_models_have_their_size_and_are_functions_of_one_vector(model, shape, dim):
    weights = model.init(seed=0)
    assert weights.shape == (dim,)
    assert model.dim == dim
    inputs = torch.randn(2, *shape)
    logits = model.apply(weights, inputs)
    assert logits.shape == (2, 10)
    assert torch.equal(weights, model.init(seed=0))
    assert not torch.equal(weights, model.init(seed=1))
    assert not torch.equal(logits, model.apply(weights * 2, inputs))
    assert not torch.equal(logits, model.apply(weights, 2 * inputs))


def test_logistic_regression_by_hand():
    model = logistic((1, 1, 2), classes=2)
    weights = torch.tensor([1.0, 2, 3, 4, 10, 20])  # two rows of weights, then biases
    assert model.apply(weights, torch.tensor([[[[1.0, -1]]]])).tolist() == [[9, 19]]


def test_a_model_with_buffers_is_refused():
    with pytest.raises(InputError, match="got buffers"):
        Model(lambda: torch.nn.BatchNorm2d(3))


@pytest.mark.parametrize("drop", [nn.Dropout(0.5), nn.Dropout2d(0.1), nn.AlphaDropout(0.1)])
def test_a_model_with_dropout_is_refused(drop):
    with pytest.raises(InputError, match=r"got dropout \['1'\]; set p=0"):
        Model(lambda: nn.Sequential(nn.Linear(2, 2), drop))
    drop.p = 0.0
    Model(lambda: nn.Sequential(nn.Linear(2, 2), drop))


def test_a_model_whose_parameters_are_not_all_trained_is_refused():
    def build():
        module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        module[0].bias.requires_grad_(False)
        return module

    with pytest.raises(InputError, match=r"got requires_grad=False of \['0.bias'\]"):
        Model(build)


PARTITIONS = [
    IID(7),
    IID(7, 1.0),
    Dirichlet(7, 0.1),
    ByClass(10),
    ByClass(7, 3),
    ByClass(20, 2, 0.5),
    ByClass(10, examples_per_client=20),
]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_partitions_deal_each_example_at_most_once(partition):
    parts = partition.split(LABELS, seed=0)
    assert len(parts) == partition.clients
    assert min(len(part) for part in parts) >= 1
    dealt = torch.cat(parts)
    assert len(dealt.unique()) == len(dealt)
    if not isinstance(partition, ByClass):
        assert len(dealt) == len(LABELS)
    assert all(torch.equal(a, b) for a, b in zip(parts, partition.split(LABELS, 0), strict=True))
    assert any(
        not torch.equal(a, b) for a, b in zip(parts, partition.split(LABELS, 1), strict=False)
    )


def test_sizes_are_equal_or_not():
    assert {len(part) for part in IID(10).split(LABELS, 0)} == {100}
    assert len({len(part) for part in IID(10, imbalance=1.0).split(LABELS, 0)}) > 5
    assert {len(part) for part in ByClass(20).split(LABELS, 0)} == {50}
    assert len({len(part) for part in ByClass(20, imbalance=1.0).split(LABELS, 0)}) > 10


@pytest.mark.parametrize("imbalance", [0.3, 1.0])
def test_an_imbalance_is_the_standard_deviation_of_log_sizes(imbalance):
    labels = torch.zeros(200_000)
    for partition in (IID(1000, imbalance), ByClass(1000, imbalance=imbalance)):
        sizes = torch.tensor([len(part) for part in partition.split(labels, 0)])
        assert float(sizes.log().std()) == pytest.approx(imbalance, rel=0.1)


@pytest.mark.parametrize("make", [IID, ByClass])
def test_clients_keep_so_many_examples_at_most(make):
    all_of_it, some = make(10).split(LABELS, 0), make(10, examples_per_client=30).split(LABELS, 0)
    for part, kept in zip(all_of_it, some, strict=True):
        assert len(kept) == 30
        assert torch.isin(kept, part).all()
    more_than_there_are = make(10, examples_per_client=1000).split(LABELS, 0)
    assert [len(part) for part in more_than_there_are] == [len(part) for part in all_of_it]


def test_what_clients_keep_is_of_all_their_classes():
    for part in ByClass(10, 2, examples_per_client=30).split(LABELS, 0):
        assert LABELS[part].bincount().max() < 25


def test_by_class_holds_so_many_classes():
    for classes in (1, 2, 5):
        for part in ByClass(10, classes).split(LABELS, 0):
            assert len(LABELS[part].unique()) == classes
            assert len(part) == 100


def test_a_small_alpha_is_skewed():
    def largest_class(alpha):
        parts = Dirichlet(5, alpha).split(LABELS, 0)
        shares = [LABELS[part].bincount(minlength=10).max() / len(part) for part in parts]
        return sum(shares) / len(shares)

    assert largest_class(0.05) > 0.5 > 0.2 > largest_class(100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IID(0), "at least 1 client"),
        (lambda: Dirichlet(3, 0), "alpha must be above 0"),
        (lambda: ByClass(3, 11).split(LABELS, 0), "classes_per_client must be 1 to 10"),
        (lambda: ByClass(3, examples_per_client=0), "examples_per_client must be at least 1"),
        (lambda: IID(1001).split(LABELS, 0), "clients=1001 can not share 1000"),
    ],
)
def test_impossible_partitions_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


class Split:
    """A partition of one's own."""

    def __init__(self, parts):
        self.parts = parts

    def split(self, labels, seed):
        return self.parts


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "at least 1 client; got none"),
        ([[0, 1]], "as a tensor of torch.int64; got list for client 0"),
        ([torch.tensor([0]), torch.tensor([1]).numpy()], "torch.int64; got ndarray for client 1"),
        ([torch.tensor([0.0])], "torch.int64; got torch.float32 for client 0"),
        ([torch.tensor([True])], "torch.int64; got torch.bool for client 0"),
        ([torch.tensor([0]), torch.tensor([]).long()], r"least one index.* got \[0\] for client 1"),
        ([torch.tensor([[0]])], r"at least one index, as \[n\]; got \[1, 1\] for client 0"),
        ([torch.tensor([0, 1437])], "indices of 0 to 1436, the training examples; got 0 to 1437"),
        ([torch.tensor([0, -1])], "indices of 0 to 1436, the training examples; got -1 to 0"),
        ([torch.tensor([7, 2]), torch.tensor([2, 3])], "got 1 that are given again, among them 2"),
        ([torch.tensor([5, 5])], "got 1 that are given again, among them 5"),
    ],
)
def test_what_is_no_partition_is_refused_before_a_run(monkeypatch, parts, message):
    monkeypatch.setattr(prepared, "build", lambda config: Split(parts))
    config = OmegaConf.create({"partition": {"_target_": "mine.Split"}, "seed": 0})
    with pytest.raises(InputError, match=f"^partition mine.Split must give .*{message}"):
        prepared._federation(config, None, digits())


def test_who_would_hold_nothing_gets_an_example():
    parts = Dirichlet(40, 0.01).split(LABELS, 0)
    assert min(len(part) for part in parts) == 1
    assert torch.cat(parts).sort().values.tolist() == list(range(1000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FedSGD(0), "client.batch_size must be at least 1; got 0"),
        (lambda: FedSGD(1, l2=-1), "client.l2 must be at least 0; got -1"),
        (lambda: FullGradient(precision="float16"), "float32 or bfloat16; got 'float16'"),
        (lambda: FedAvg(1, 1, lr=0), "client.lr must be above 0; got 0"),
        (lambda: mlp(MNIST, 10, [0]), r"model.hidden must be .* got \[0\]"),
        (lambda: cnn(MNIST, 10, channels=[8]), r"model.channels must be two .* got \[8\]"),
        (lambda: resnet(MNIST, 10, width=0, blocks=1), "model.width .* got 0 and 1"),
    ],
)
def test_impossible_work_and_models_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    model = mlp((1, 2, 3), 4, [5])
    shard = Shard(torch.randn(30, 1, 2, 3, generator=generator), torch.arange(30) % 4)
    return model, model.init(0), shard


def client_update(work, model, weights, shard, seed=0):
    return update_by_autograd(work, model, weights, shard, work.schedule(len(shard.y), seed))


def loss_at(model, shard, l2, weights):
    return (
        functional.cross_entropy(model.apply(weights, shard.x), shard.y)
        + l2 / 2 * weights @ weights
    )


def test_a_full_gradient_is_the_gradient(problem):
    model, weights, shard = problem
    update, loss = client_update(FullGradient(l2=0.1), model, weights, shard)
    expected = torch.func.grad(partial(loss_at, model, shard, 0.1))(weights)
    torch.testing.assert_close(update, expected)
    torch.testing.assert_close(loss, loss_at(model, shard, 0.1, weights))


def test_fedsgd_is_the_gradient_of_a_seeded_batch(problem):
    model, weights, shard = problem
    everything, _ = client_update(FedSGD(batch_size=30), model, weights, shard, seed=1)
    full, _ = client_update(FullGradient(), model, weights, shard)
    torch.testing.assert_close(everything, full)
    small = [
        client_update(FedSGD(batch_size=5), model, weights, shard, seed)[0] for seed in (1, 1, 2)
    ]
    assert torch.equal(small[0], small[1])
    assert not torch.equal(small[0], small[2])


def test_fedavg_with_one_full_batch_is_a_gradient_step(problem):
    model, weights, shard = problem
    update, _ = client_update(FedAvg(epochs=1, batch_size=30, lr=0.5), model, weights, shard)
    full, _ = client_update(FullGradient(), model, weights, shard)
    torch.testing.assert_close(update, 0.5 * full, atol=1e-6, rtol=1e-4)


def test_fedavg_takes_epochs_times_batches_steps(problem):
    model, weights, shard = problem
    update, _ = client_update(
        FedAvg(epochs=2, batch_size=10, lr=0.1), model, weights, shard, seed=3
    )
    local, generator = weights.clone(), torch.Generator().manual_seed(3)
    for _ in range(2):
        for batch in torch.randperm(30, generator=generator).split(10):
            local -= 0.1 * client_update(FullGradient(), model, local, shard.rows(batch))[0]
    torch.testing.assert_close(update, weights - local)


def test_client_updates_are_each_client_s_own(problem):
    model, weights, shard = problem
    shards = [shard.rows(torch.arange(10)), shard.rows(torch.arange(10, 30))]
    updates, losses = Cohort.with_seeds(FullGradient(), model, weights, shards, (0, 1)).updates()
    for row in range(2):
        torch.testing.assert_close(
            updates[row], client_update(FullGradient(), model, weights, shards[row])[0]
        )
    assert losses.shape == (2,)
    assert batch_seed(0, 1, 2) != batch_seed(0, 2, 1)


def aggregate(estimates, examples, how):
    """Both at once, which is the same as one after the other."""
    whole, parts = (Aggregate(how) for _ in range(2))
    whole.add(estimates, examples)
    for row in range(len(estimates)):
        part = Aggregate(how)
        part.add(estimates[row : row + 1], examples[row : row + 1])
        parts.join(part)
    assert torch.equal(whole.result(), parts.result())
    return whole.result().tolist()


def test_the_mean_is_weighted_and_votes_are_not():
    estimates, examples = torch.tensor([[1.0, -1, 2], [4.0, 5, -2]]), torch.tensor([3, 1])
    assert aggregate(estimates, examples, "mean") == [1.75, 0.5, 1.0]
    assert aggregate(estimates, examples, "majority_vote") == [1, 0, 0]
    with pytest.raises(InputError, match="got 'median'"):
        aggregate(estimates, examples, "median")


def test_the_server_descends():
    server = Server(torch.ones(2), partial(torch.optim.SGD, lr=0.5))
    server.step(torch.tensor([1.0, -2]))
    assert server.weights.tolist() == [0.5, 2.0]


def test_the_ledger_counts_bytes_and_takes_nothing_else():
    ledger = BitLedger()
    ledger.sent_up([b"abc", b""])
    ledger.sent_down([b"abcd"] * 3)
    assert (ledger.uplink_bits, ledger.downlink_bits) == (24, 96)
    with pytest.raises(TypeError, match="counts bytes; got int"):
        ledger.sent_up([3])
    ledger.sent_up([b"de"])
    ledger.sent_down([b"f"])
    assert (ledger.uplink_bits, ledger.downlink_bits) == (40, 104)
    ledger.join(BitLedger(1, 2))
    ledger.join(BitLedger(1, 2))
    assert (ledger.uplink_bits, ledger.downlink_bits) == (42, 108)
    assert BitLedger() == BitLedger(0, 0)


def test_metrics_by_hand():
    updates = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    estimates = torch.tensor([[3.0, 3.0], [1.0, 1.0], [1.0, 2.0]])
    assert relative_error(estimates, updates) == pytest.approx((1 / 25 + 4) / 2)
    model = logistic((1, 1, 1), classes=2)
    weights = torch.tensor([1.0, -1, 0, 0])
    x, y = torch.tensor([1.0, -1, 2]).view(3, 1, 1, 1), torch.tensor([0, 1, 1])
    loss, accuracy = evaluate(model, weights, x, y)
    assert accuracy == pytest.approx(2 / 3)
    assert loss == pytest.approx(float(functional.cross_entropy(model.apply(weights, x), y)))


class Tanh(nn.Module):
    """Not a sequence of layers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(48, 3)

    def forward(self, x):
        return torch.tanh(self.layer(x.flatten(1)))


@pytest.mark.usefixtures("blas")
@pytest.mark.parametrize(
    ("model", "budget", "passes"),
    [
        (cnn((3, 4, 4), 3), 2 * 2867, [2] * 5 + [1]),
        (mlp((3, 4, 4), 3, [5]), 2 * 2867, [11]),
        (resnet((3, 4, 4), 3, width=8, blocks=1), 722, [1] * 11),
        (Model(Tanh), 1, [11]),
    ],
    ids=["known layers", "dense", "other layers", "no sequence"],
)
def test_evaluation_is_that_of_the_model_in_passes_that_fit(model, budget, passes, monkeypatch):
    """An example is 48 floats, 2867 with what layers of the CNN make of it, 109 and 723 of the others."""
    monkeypatch.setitem(shared_pass.BUDGET, "cpu", budget)
    seen = []
    one_pass = metrics._logits
    monkeypatch.setattr(metrics, "_logits", lambda *of: seen.append(len(of[2])) or one_pass(*of))
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(11, 3, 4, 4, generator=generator)
    y = torch.randint(3, (11,), generator=generator)
    weights = model.init(1)
    loss, accuracy = evaluate(model, weights, x, y)
    logits = model.apply(weights, x).detach()
    assert loss == pytest.approx(float(functional.cross_entropy(logits, y)), rel=1e-5)
    assert accuracy == int((logits.argmax(dim=1) == y).sum()) / 11
    assert sorted(seen, reverse=True) == passes
