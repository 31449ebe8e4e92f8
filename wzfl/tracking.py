"""Where a run's progress is shown while and after it runs, besides its files."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from wzfl.errors import InputError


class Tracker(Protocol):
    """Is told of a run, and changes nothing in it.

    A run that goes on after its process was killed starts again with `goes_on`, and then has all its
    rounds logged, those of before first. What was started is finished, or fails.
    """

    def start(
        self, run_id: str, config: Mapping[str, Any], results_dir: Path, goes_on: bool
    ) -> None: ...
    def log(self, record: Mapping[str, float]) -> None: ...
    def finish(self, summary: Mapping[str, Any]) -> None: ...
    def fail(self) -> None: ...
    def keep_report(self, name: str, report: Path) -> None: ...


class NoTracking:
    """Tells nobody."""

    def start(
        self, run_id: str, config: Mapping[str, Any], results_dir: Path, goes_on: bool
    ) -> None:
        pass

    def log(self, record: Mapping[str, float]) -> None:
        pass

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass

    def fail(self) -> None:
        pass

    def keep_report(self, name: str, report: Path) -> None:
        pass


# What each metric is drawn against, and what tables of runs show of it; None: its last value.
_METRICS = {
    "total_uplink_bits": ("round", None),
    "train_loss": ("total_uplink_bits", "min,last"),
    "test_loss": ("total_uplink_bits", "min,last"),
    "test_accuracy": ("total_uplink_bits", "max,last"),
    "uplink_bits": ("round", None),
    "downlink_bits": ("round", None),
    "nmse": ("round", "mean,last"),
    "side_information_error": ("round", "mean,last"),
    "decode_failures": ("round", "max,last"),
    "lost": ("round", "max,last"),
    "refused": ("round", "max,last"),
    "seconds": ("round", "mean"),
}


class Wandb:
    """Shows runs in Weights & Biases; offline by default, so that it needs neither account nor network.

    A run is one run of wandb, of the same id, whatever killed it in between. wandb's own way of going on
    offline, a second folder that `wandb sync` appends, does not do: rounds after the last checkpoint
    would be there twice, and those that a killed process had not written yet, not at all. So what goes
    on offline starts a folder that holds every round, and that of before goes.

    Attributes:
        mode: "offline" or "online".
        project: the project's name.
    """

    def __init__(
        self, mode: Literal["offline", "online"] = "offline", project: str = "wzfl"
    ) -> None:
        self.mode, self.project = mode, project
        self._run: Any = None
        self._clients_per_round = self._payloads = self._uplink_bits = 0

    def start(
        self, run_id: str, config: Mapping[str, Any], results_dir: Path, goes_on: bool
    ) -> None:
        names = config["names"]
        self._clients_per_round = config["clients_per_round"]
        self._payloads = self._uplink_bits = 0
        self._run = self._begin(
            run_id,
            results_dir,
            # Without, what a server has of a run of that id is replaced.
            resume="allow" if goes_on and self.mode == "online" else None,
            job_type="train",
            name=f"{names['compressor']}-{names['dataset']}-seed{config['seed']}-{run_id[:6]}",
            group=config["sweep"],
            tags=[names["compressor"], names["dataset"], names["partition"]],
            config=dict(config) | {"run_id": run_id},
        )
        self._run.define_metric("round")
        for metric, (against, shown) in _METRICS.items():
            self._run.define_metric(metric, step_metric=against, summary=shown)

    def log(self, record: Mapping[str, float]) -> None:
        self._uplink_bits += int(record["uplink_bits"])
        self._payloads += self._clients_per_round
        step = int(record["round"])
        # The server has those before from the process that was killed.
        if step >= self._run.starting_step:
            numbers = {key: value for key, value in record.items() if value == value}
            self._run.log(numbers | {"total_uplink_bits": self._uplink_bits}, step=step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))
        if self._payloads:
            sent = self._payloads * summary["dim"]
            self._run.summary["bits_per_coordinate"] = self._uplink_bits / sent
        self._run.finish()

    def fail(self) -> None:
        self._run.finish(exit_code=1)

    def keep_report(self, name: str, report: Path) -> None:
        """Makes a report and the folder figures/ beside it, if there is one, an artifact of a run of its own.

        That run's id is the report's name, so that a report that is drawn again replaces it; of the
        artifact, a server then has another version if a file has changed.
        """
        run = self._begin(f"report-{name}", report.parent, job_type="report", tags=[name])
        # Copied, because figures may be drawn again before they are uploaded; next to the run, because
        # wandb's own copies would stay in the user's folders for ever.
        copy = Path(run.dir).parent / "report"
        copy.mkdir()
        shutil.copy(report, copy)
        if (figures := report.parent / "figures").is_dir():
            shutil.copytree(figures, copy / figures.name)
        artifact = _wandb().Artifact(f"report-{name}", type="report")
        artifact.add_dir(str(copy), policy="immutable", skip_cache=True)
        run.log_artifact(artifact)
        run.finish()

    def _begin(self, run_id: str, results_dir: Path, **settings: Any) -> Any:
        if self.mode == "offline":
            # Else wandb reports on itself over the network, offline too; it looks here when imported.
            os.environ["WANDB_ERROR_REPORTING"] = "false"
        wandb = _wandb()
        results_dir.mkdir(parents=True, exist_ok=True)
        for earlier in (results_dir / "wandb").glob(f"offline-run-*-{run_id}"):
            shutil.rmtree(earlier)
        try:
            return wandb.init(
                mode=self.mode,
                project=self.project,
                dir=str(results_dir.absolute()),
                id=run_id,
                # By default a run that is still open would be returned, and be told of this one.
                reinit="finish_previous",
                settings=wandb.Settings(console="off", x_disable_stats=True, disable_git=True),
                **settings,
            )
        except wandb.errors.Error as error:
            raise InputError(
                f"wandb can not begin a run with tracking.mode={self.mode} ({error}); `wandb login`, or"
                " tracking.mode=offline, then make wandb-sync"
            ) from error


def unless_disabled(tracker: Tracker) -> Tracker:
    """Returns `tracker`, or one that tells nobody where wandb's own switch, WANDB_MODE=disabled, says so."""
    off = isinstance(tracker, Wandb) and os.environ.get("WANDB_MODE") == "disabled"
    return NoTracking() if off else tracker


def _wandb() -> Any:
    """Imports wandb, which takes a second and is not asked for in every run."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb
