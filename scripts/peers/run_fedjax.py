"""Time one federated round in FedJAX, on synthetic data of MNIST's shape.

`python run_fedjax.py w1_mlp --threads 2 --rounds 5 --warmup 2` prints one JSON object with the
wall seconds of each round after the warm-up.  A round is what a FedJAX user runs: sample the
clients, `fed_avg.apply` with the default jit backend, and wait for the new server state.
"""

import os
import time
from importlib.metadata import version

import haiku as hk
import jax
import numpy as np

jax.tree_map = jax.tree_util.tree_map  # removed from JAX, still called by fedjax 0.0.17

import fedjax  # noqa: E402
from fedjax.algorithms import fed_avg  # noqa: E402
from workloads import CLASSES, PARAMETERS, SEED, WORKLOADS, Workload, parse, print_result  # noqa: E402

IMAGE_SHAPE = (28, 28, 1)


def mlp() -> hk.Sequential:
    """Build the 784-200-200-10 perceptron."""
    return hk.Sequential(
        [
            hk.Flatten(),
            hk.Linear(200),
            jax.nn.relu,
            hk.Linear(200),
            jax.nn.relu,
            hk.Linear(CLASSES),
        ]
    )


def cnn() -> hk.Sequential:
    """Build the network of two 5x5 convolutions and two dense layers."""
    return hk.Sequential(
        [
            hk.Conv2D(32, 5, padding="SAME"),
            jax.nn.relu,
            hk.MaxPool((2, 2, 1), (2, 2, 1), "VALID"),
            hk.Conv2D(64, 5, padding="SAME"),
            jax.nn.relu,
            hk.MaxPool((2, 2, 1), (2, 2, 1), "VALID"),
            hk.Flatten(),
            hk.Linear(512),
            jax.nn.relu,
            hk.Linear(CLASSES),
        ]
    )


NETWORKS = {"mlp": mlp, "cnn": cnn}


def make_model(network: str) -> fedjax.Model:
    """Wrap a haiku network as a FedJAX model with the cross-entropy loss."""
    return fedjax.create_model_from_haiku(
        transformed_forward_pass=hk.transform(lambda batch: NETWORKS[network]()(batch["x"])),
        sample_batch={"x": np.zeros((1, *IMAGE_SHAPE), np.float32), "y": np.zeros(1, np.int32)},
        train_loss=lambda batch, out: fedjax.metrics.unreduced_cross_entropy_loss(batch["y"], out),
    )


def make_data(work: Workload) -> fedjax.InMemoryFederatedData:
    """Draw every client's examples."""
    rng = np.random.default_rng(SEED)
    return fedjax.InMemoryFederatedData(
        {
            f"{client:03d}": {
                "x": rng.standard_normal((work.examples, *IMAGE_SHAPE), dtype=np.float32),
                "y": rng.integers(CLASSES, size=work.examples, dtype=np.int32),
            }
            for client in range(work.population)
        }
    )


def time_rounds(work: Workload, network: str, rounds: int) -> list[float]:
    """Run rounds and return the wall seconds of each."""
    model = make_model(network)
    params = model.init(jax.random.PRNGKey(SEED))
    assert hk.data_structures.tree_size(params) == PARAMETERS[network]
    algorithm = fed_avg.federated_averaging(
        fedjax.model_grad(model),
        fedjax.optimizers.sgd(work.client_lr),
        fedjax.optimizers.sgd(work.server_lr),
        fedjax.ShuffleRepeatBatchHParams(work.batch),
    )
    sampler = fedjax.client_samplers.UniformGetClientSampler(make_data(work), work.cohort, SEED)
    state, seconds = algorithm.init(params), []
    for _ in range(rounds):
        start = time.perf_counter()
        state, _ = algorithm.apply(state, sampler.sample())
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Time the rounds that the arguments ask for and print the JSON object."""
    args = parse(__doc__, first_is_timed=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    work, network = args.workload.split("_")
    seconds = time_rounds(WORKLOADS[work], network, args.warmup + args.rounds)[args.warmup :]
    print_result(args, "fedjax", version("fedjax"), f"jax {jax.__version__}", seconds)


if __name__ == "__main__":
    main()
