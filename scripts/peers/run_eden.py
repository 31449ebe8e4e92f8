"""Time the codec of EDEN's authors on Gaussian vectors, as `scripts/benchmark_codecs.py` times ours.

`python run_eden.py FOLDER --dims 1048576 --clients 16 --threads 2 --bitrate 2` prints one JSON object
per dimension with the wall seconds of each repetition after the warm-up.  FOLDER is a clone of
https://github.com/amitport/EDEN-Distributed-Mean-Estimation.  That codec takes one vector at a time,
and what it encodes to are 64-bit integers: no bytes are made or read in its time.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import torch


def measure(args: argparse.Namespace, dim: int) -> dict[str, object]:
    """Time both directions; the relative error shows that both ends agree."""
    from eden import eden_builder  # of the clone

    torch.manual_seed(0)
    updates, codec = torch.randn(args.clients, dim), eden_builder(bits=args.bitrate)
    seconds: dict[str, list[float]] = {"encode": [], "decode": []}
    for _ in range(args.warmup + args.repetitions):
        begin = time.perf_counter()
        encoded = [codec.forward(update) for update in updates]
        middle = time.perf_counter()
        decoded = [codec.backward(*each)[0] for each in encoded]
        seconds["encode"].append(middle - begin)
        seconds["decode"].append(time.perf_counter() - middle)
    error = sum((a - b).square().sum() for a, b in zip(decoded, updates, strict=True))
    source = (args.folder / "torch" / "eden.py").read_bytes()
    return {
        "compressor": "eden of its authors",
        "version": "sha256 " + hashlib.sha256(source).hexdigest()[:8],
        "clients": args.clients,
        "dim": dim,
        "threads": args.threads,
        "relative_error": float(error / updates.square().sum()),
        **{direction: each[args.warmup :] for direction, each in seconds.items()},
    }


def main() -> None:
    """Parse the arguments, time the codec and print the JSON objects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dims", nargs="+", type=int, default=[2**20])
    for option, default in (("clients", 16), ("threads", 2), ("repetitions", 5), ("warmup", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--bitrate", type=int, default=2, help="bits per coordinate")
    args = parser.parse_args()
    sys.path.insert(0, str(args.folder / "torch"))
    torch.set_num_threads(args.threads)
    for dim in args.dims:
        print(json.dumps(measure(args, dim)), flush=True)


if __name__ == "__main__":
    main()
