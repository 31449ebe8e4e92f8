"""A progress bar over the runs of a sweep, whichever launcher carries them out."""

import threading
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from sweep_size import choices, count
from tqdm import tqdm

from wzfl.results import SweepFolder


class SweepCallback(Callback):
    """Acts in the process that started a sweep, and does nothing in those that carry it out."""

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        # Launchers pickle callbacks for their workers, which may not even find this file.
        return Callback, ()


class SweepProgress(SweepCallback):
    """Counts the marks that runs leave in the sweep's folder, from the process that started it.

    Those of an earlier sweep of the same name are forgotten once this one has left a first.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._folder = SweepFolder(Path(config.hydra.sweep.dir))
        self._before = self._folder.marks()
        taken = choices(config.hydra.sweeper.params or {}, config.hydra.overrides.task)
        self._bar = tqdm(total=count(taken), desc="sweep", unit="run", disable=None, position=0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        self._done.set()
        self._thread.join()
        self._bar.close()

    def _watch(self) -> None:
        while not self._done.wait(timeout=0.5):
            self._show()
        self._show()

    def _show(self) -> None:
        marks = self._folder.marks()
        own = dict(marks.items() - self._before.items())
        if own:
            self._folder.forget(marks.keys() - own.keys())
        self._bar.n = len(own)
        self._bar.refresh()
