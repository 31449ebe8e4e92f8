"""A progress bar over the runs of a sweep, whichever launcher carries them out."""

import threading
from math import prod
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from tqdm import tqdm

from wzfl.results import SweepFolder


class SweepCallback(Callback):
    """Acts in the process that started a sweep, and does nothing in those that carry it out."""

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        # Launchers pickle callbacks for their workers, which may not even find this file.
        return Callback, ()


class SweepProgress(SweepCallback):
    """Counts the marks that runs leave in the sweep's folder, from the process that started it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._folder = SweepFolder(Path(config.hydra.sweep.dir))
        self._folder.clear()
        self._bar = tqdm(total=_count(config), desc="sweep", unit="run", disable=None, position=0)
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
        self._bar.n = self._folder.count()
        self._bar.refresh()


def _count(config: DictConfig) -> int:
    """How many runs the sweep's overrides span."""
    params = dict(config.hydra.sweeper.params or {})
    overrides = [f"{key}={value}" for key, value in params.items()] + list(
        config.hydra.overrides.task
    )
    # glob(...) asks the loader which choices there are.
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    swept = {
        override.key_or_group: len(list(override.sweep_string_iterator()))
        for override in parser.parse_overrides(overrides)
        if override.is_sweep_override()
    }
    return prod(swept.values())
