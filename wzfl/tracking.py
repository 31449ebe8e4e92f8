"""Where a run's progress is shown while and after it runs, besides its files."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Told of a run; changes nothing in it."""

    def start(self, run_id: str, config: Mapping[str, Any], results_dir: Path) -> None: ...
    def log(self, record: Mapping[str, float]) -> None: ...
    def finish(self, summary: Mapping[str, Any]) -> None: ...


class NoTracking:
    """Tells nobody."""

    def start(self, run_id: str, config: Mapping[str, Any], results_dir: Path) -> None:
        pass

    def log(self, record: Mapping[str, float]) -> None:
        pass

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass


class Wandb:
    """Weights & Biases; offline unless told otherwise, so that it needs neither account nor network.

    Attributes:
        mode: "offline" or "online".
        project: the project's name.
    """

    def __init__(self, mode: str = "offline", project: str = "wzfl") -> None:
        self.mode, self.project = mode, project
        self._run: Any = None

    def start(self, run_id: str, config: Mapping[str, Any], results_dir: Path) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        results_dir.mkdir(parents=True, exist_ok=True)
        names = config["names"]
        self._run = wandb.init(
            mode=self.mode,  # type: ignore[arg-type]
            project=self.project,
            dir=str(results_dir),
            id=run_id,
            resume="allow" if self.mode == "online" else None,
            name=f"{names['compressor']}-{names['dataset']}-seed{config['seed']}-{run_id[:6]}",
            group=config["sweep"],
            tags=[names["compressor"], names["dataset"], names["partition"]],
            config=dict(config) | {"run_id": run_id},
            settings=wandb.Settings(console="off", x_disable_stats=True, disable_git=True),
        )
        self._run.define_metric("round")
        self._run.define_metric("total_uplink_bits", step_metric="round")
        for metric in ("train_loss", "test_loss", "test_accuracy"):
            self._run.define_metric(metric, step_metric="total_uplink_bits")

    def log(self, record: Mapping[str, float]) -> None:
        self._run.log({key: value for key, value in record.items() if value == value})

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))
        self._run.finish()
