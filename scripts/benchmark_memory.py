"""Final accuracy when the server remembers its clients less well: narrower, or not all of them.

    python scripts/benchmark_memory.py --precision int8 --capacity 20 --seed 0

MNIST (or digits), 40 clients with one class each, 10 in a round, MLP, FedSGD, wyner_ziv at 1 bit per
coordinate with side_information=last. Prints one JSON object.
"""

import argparse
import json

from run_command import argument_parser, run_command

from wzfl.environment import keep_freed_memory  # isort: skip  # before torch: see wzfl.openmp

import torch
from hydra import compose, initialize_config_dir

from wzfl.config import conf_dir
from wzfl.prepared import prepared
from wzfl.simulation import simulate

SETTINGS = [
    "experiment=mnist_by_class",
    "compressor=wyner_ziv",
    "names.compressor=wyner_ziv",  # by which the experiment looks up its step size
    "side_information=last",
    "bitrate=1",
    "clients=40",
    "clients_per_round=10",
    "client.batch_size=512",
]


def main() -> None:
    arguments = parse()
    keep_freed_memory()
    overrides = [
        *SETTINGS,
        f"dataset={arguments.dataset}",
        f"rounds={arguments.rounds}",
        f"seed={arguments.seed}",
        f"side_information.precision={arguments.precision}",
        f"side_information.capacity={arguments.capacity or 'null'}",
    ]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", overrides)
    federation, state, data = prepared(config, torch.device("cpu"))
    records = list(
        simulate(federation, state, config.rounds, config.rounds, data.test_x, data.test_y)
    )
    late = records[-config.rounds // 4 :]
    done = {
        "test_accuracy": records[-1]["test_accuracy"],
        "side_information_error": sum(each["side_information_error"] for each in late) / len(late),
    }
    print(json.dumps(vars(arguments) | done))


def parse() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--precision", default="float32", help="float32, bfloat16 or int8")
    parser.add_argument("--capacity", type=int, help="clients remembered; default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--dataset", default="mnist")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
