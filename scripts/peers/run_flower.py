"""Time one federated round in Flower, on synthetic data of MNIST's shape.

`python run_flower.py w1_mlp --threads 2 --rounds 5 --warmup 2` prints one JSON object with the
wall seconds of each round after the warm-up.  A round is what Flower's server does between two
aggregations; the clients are PyTorch models in one single-threaded Ray actor a thread.  The
first round starts the actors and makes their data, so at least one must be warm-up.
"""

import functools
import os
import time

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}

import numpy as np
import torch
from flwr import __version__, client, common, server, simulation
from torch import Tensor, nn
from torch_networks import NETWORKS
from workloads import CLASSES, PARAMETERS, SEED, WORKLOADS, Workload, parse, print_result


@functools.cache
def make_data(work: Workload) -> tuple[Tensor, Tensor]:
    """Draw every client's examples, once in each actor."""
    rng = torch.Generator().manual_seed(SEED)
    shape = (work.population, work.examples)
    return torch.randn(*shape, 1, 28, 28, generator=rng), torch.randint(
        CLASSES, shape, generator=rng
    )


class Trainer(client.NumPyClient):
    """A client that trains a fresh network on its own examples."""

    def __init__(self, work: Workload, network: str, partition: int) -> None:
        self.work, self.net = work, nn.Sequential(*NETWORKS[network]())
        self.x, self.y = (pool[partition] for pool in make_data(work))

    def fit(self, parameters: common.NDArrays, config: dict) -> tuple[common.NDArrays, int, dict]:
        """Run one local epoch of SGD from the server's parameters."""
        for own, sent in zip(self.net.parameters(), parameters, strict=True):
            own.data = torch.from_numpy(sent.copy())
        optimizer = torch.optim.SGD(self.net.parameters(), lr=self.work.client_lr)
        for batch in torch.randperm(self.work.examples).split(self.work.batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(self.net(self.x[batch]), self.y[batch]).backward()
            optimizer.step()
        return [p.detach().numpy() for p in self.net.parameters()], self.work.examples, {}


def make_client(workload: str, context: common.Context) -> client.Client:
    """Make one client in an actor."""
    torch.set_num_threads(1)
    work, network = workload.split("_")
    return Trainer(WORKLOADS[work], network, int(context.node_config["partition-id"])).to_client()


def make_strategy(workload: str, stamps: list[float]) -> server.strategy.FedAvgM:
    """Make a federated averaging that notes the time of each aggregation in `stamps`."""
    work, net = WORKLOADS[workload[:2]], nn.Sequential(*NETWORKS[workload[3:]]())
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[workload[3:]]
    arrays = [p.detach().numpy() for p in net.parameters()]
    return server.strategy.FedAvgM(
        fraction_fit=work.cohort / work.population,
        fraction_evaluate=0.0,
        min_available_clients=work.population,
        accept_failures=False,
        initial_parameters=common.ndarrays_to_parameters(arrays),
        fit_metrics_aggregation_fn=lambda _: stamps.append(time.perf_counter()) or {},
        server_learning_rate=work.server_lr,
    )


def time_rounds(workload: str, threads: int, rounds: int) -> list[float]:
    """Run rounds and return the wall seconds of each but the first."""
    from run_flower import make_client  # so that Ray pickles it by name and the data stay cached

    stamps: list[float] = []
    simulation.start_simulation(
        client_fn=functools.partial(make_client, workload),
        num_clients=WORKLOADS[workload[:2]].population,
        client_resources={"num_cpus": 1},
        config=server.ServerConfig(num_rounds=rounds),
        strategy=make_strategy(workload, stamps),
        ray_init_args={"num_cpus": threads, "include_dashboard": False},
    )
    return np.diff(stamps).tolist()


def main() -> None:
    """Time the rounds that the arguments ask for and print the JSON object."""
    args = parse(__doc__, first_is_timed=False)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    seconds = time_rounds(args.workload, args.threads, args.warmup + args.rounds)
    print_result(
        args, "flower", __version__, f"torch {torch.__version__}", seconds[args.warmup - 1 :]
    )


if __name__ == "__main__":
    main()
