"""Time one federated round in Apple's pfl-research, on synthetic data of MNIST's shape.

`python run_pfl.py w1_mlp --threads 2 --rounds 5 --warmup 2` prints one JSON object with the
wall seconds of each round after the warm-up.  A round is one central iteration of
`FederatedAveraging` in the `SimulatedBackend`, in one single-threaded worker process a thread,
started by torchrun.  The first iteration always evaluates, so at least one must be warm-up.
"""

import os
import sys
import time
from importlib.metadata import version

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.distributed import run as torchrun
from torch_networks import NETWORKS
from workloads import CLASSES, PARAMETERS, SEED, WORKLOADS, Workload, parse, print_result

IMAGE_SHAPE = (1, 28, 28)


class Classifier(nn.Sequential):
    """A stack of layers with the two methods that pfl asks of a model."""

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        return nn.functional.cross_entropy(self(x), y)

    @torch.no_grad()
    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Weighted]:
        """Return the loss of a batch as a pfl metric."""
        return {"loss": Weighted(self.loss(x, y).item() * len(y), len(y))}


class Stopwatch(TrainingProcessCallback, list):
    """The list of the times at which the central iterations ended."""

    def after_central_iteration(self, *_: object, **__: object) -> tuple[bool, Metrics]:
        """Note the time; never stop the training."""
        self.append(time.perf_counter())
        return False, Metrics()


def make_data(work: Workload) -> FederatedDataset:
    """Draw every user's examples."""
    data = [
        Dataset(
            (torch.randn(work.examples, *IMAGE_SHAPE), torch.randint(CLASSES, (work.examples,))),
            user_id=str(user),
        )
        for user in range(work.population)
    ]
    return FederatedDataset(data.__getitem__, get_user_sampler("minimize_reuse", range(len(data))))


def time_rounds(work: Workload, network: str, rounds: int) -> list[float]:
    """Run rounds and return the wall seconds of each but the first."""
    module, data, watch = Classifier(*NETWORKS[network]()), make_data(work), Stopwatch()
    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[network]
    model = PyTorchModel(
        module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=work.server_lr)
    )
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds,
            train_cohort_size=work.cohort,
            val_cohort_size=None,
        ),
        SimulatedBackend(data, data),
        model,
        NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=work.client_lr, local_batch_size=work.batch
        ),
        callbacks=[watch],
        send_metrics_to_platform=False,
    )
    return np.diff(watch).tolist()


def main() -> None:
    """Time the rounds that the arguments ask for and print the JSON object."""
    args = parse(__doc__, first_is_timed=False)
    if "RANK" not in os.environ:
        torchrun.main(["--standalone", f"--nproc-per-node={args.threads}", *sys.argv])
        return
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    work, network = args.workload.split("_")
    seconds = time_rounds(WORKLOADS[work], network, args.warmup + args.rounds)
    if os.environ["RANK"] == "0":
        print_result(
            args, "pfl", version("pfl"), f"torch {torch.__version__}", seconds[args.warmup - 1 :]
        )


if __name__ == "__main__":
    main()
