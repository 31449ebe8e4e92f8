"""What conf/reproduce.yaml lists, and the arguments that say which of it."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from run_command import argument_parser

from wzfl.config import build, conf_dir, load_group
from wzfl.errors import InputError
from wzfl.reporting.conditions import CONDITIONS
from wzfl.reporting.summary import Shows
from wzfl.tracking import unless_disabled

_DEFAULT = "default"


@dataclass(frozen=True)
class Preset:
    """What is run, and where its results go.

    Attributes:
        command: what reproduces it.
        experiments: its entries, in order.
        results_dir: where its results are.
        tracking: the file of conf/tracking/ that says who is told of its report.
        estimated: whether to say before it starts how long it may take.
    """

    command: str
    experiments: list[dict[str, Any]]
    results_dir: Path
    tracking: str = "none"
    estimated: bool = False

    def track(self, report: Path) -> None:
        """Tells who is to be told of the report, and of the figures beside it."""
        tracker = unless_disabled(build(load_group("tracking", self.tracking)))
        tracker.keep_report(self.command.split()[-1], report)


def overrides(entry: dict[str, Any]) -> list[str]:
    """What an entry of a preset asks of scripts/train.py."""
    name = entry["name"]
    asked = [f"experiment={entry.get('experiment', name)}", f"sweep={name}"]
    return asked + entry.get("overrides", [])


def experiments_of(name: str) -> list[dict[str, Any]]:
    """The experiments of a preset.

    Raises:
        InputError: one shows or varies what no report is about.
    """
    experiments = _presets()[name]
    for entry in experiments:
        _check(entry, "shows", get_args(Shows))
        if entry["shows"] == "conditions":
            _check(entry, "varies", CONDITIONS)
    return experiments


def _check(entry: dict[str, Any], key: str, allowed: Collection[str]) -> None:
    if (found := entry.get(key)) not in allowed:
        raise InputError(
            f"{key} of {entry['name']} must be one of {', '.join(allowed)}; got {found!r};"
            " see conf/reproduce.yaml"
        )


def command(name: str) -> str:
    """What reproduces a preset; make has targets of those that come with it."""
    target = "reproduce" if name == _DEFAULT else name
    makefile = (conf_dir().parent / "Makefile").read_text()
    targets = " ".join(re.findall(r"^([a-z -]+):", makefile, re.MULTILINE)).split()
    return f"make {target}" if target in targets else f"python scripts/reproduce.py --preset {name}"


def results_dir(name: str) -> Path:
    """Where its results are, if not said otherwise."""
    return Path("results") / ("" if name == _DEFAULT else name)


def parse_preset(description: str | None, trains: bool = False) -> Preset:
    """What the command line of a script asks for that trains first, or only draws."""
    parser = argument_parser(description)
    parser.add_argument("--preset", default=_DEFAULT, choices=list(_presets()), help="what is run")
    parser.add_argument(
        "--results-dir", type=Path, help="where results are; else results, or results/PRESET"
    )
    trackers = sorted(path.stem for path in (conf_dir() / "tracking").glob("*.yaml"))
    parser.add_argument("--tracking", default="wandb", choices=trackers, help="who is told")
    if trains:
        parser.add_argument(
            "--estimate", action="store_true", help="say first how long it may take"
        )
    asked = parser.parse_args()
    return Preset(
        command(asked.preset),
        experiments_of(asked.preset),
        asked.results_dir or results_dir(asked.preset),
        asked.tracking,
        trains and asked.estimate,
    )


def _presets() -> dict[str, list[dict[str, Any]]]:
    presets: dict[str, list[dict[str, Any]]] = yaml.safe_load(
        (conf_dir() / "reproduce.yaml").read_text()
    )
    return presets
