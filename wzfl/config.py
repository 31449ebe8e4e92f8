"""The yaml files in conf/, and objects made from them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from wzfl.compressors import Compressor
from wzfl.config_values import check_arguments, described_in
from wzfl.errors import InputError

_HYDRA = Lock()  # of which a process has one


def conf_dir() -> Path:
    """Finds conf/ in the checkout, or the copy of it in an installed wheel."""
    package = Path(__file__).parent
    checkout = package.parent / "conf"
    return checkout if (checkout / "train.yaml").is_file() else package / "conf"


def settings_of(command: str) -> set[str]:
    """Lists the keys of conf/<command>.yaml, its groups among them."""
    content = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"{command}.yaml"), resolve=False)
    assert isinstance(content, dict)
    keys = {str(key) for key in content}
    for entry in content["defaults"]:
        if isinstance(entry, Mapping):
            keys |= {group for group in entry if not group.startswith("override ")}
        elif entry != "_self_":
            keys |= settings_of(entry)
    return keys - {"defaults", "hydra"}


def compressor_names() -> list[str]:
    """Lists the names that `build_compressor` takes."""
    return sorted(path.stem for path in (conf_dir() / "compressor").glob("*.yaml"))


def build_compressor(name: str, **overrides: Any) -> Compressor:
    """Makes the compressor of conf/compressor/<name>.yaml, e.g. `build_compressor("qsgd", bitrate=2)`.

    Raises:
        InputError: there is no such compressor, or it does not take such a setting.
    """
    known = compressor_names()
    if name not in known:
        raise InputError(f"no compressor {name!r}; there are {', '.join(known)}")
    # OmegaConf knows no scalars of numpy's.
    overrides = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in overrides.items()
    }
    bitrate = overrides.pop("bitrate", 2)
    config = OmegaConf.create({"bitrate": bitrate, "compressor": _choice("compressor", name)})
    config.names = {"compressor": name}  # for messages
    config.compressor = OmegaConf.merge(config.compressor, overrides)
    return build(config.compressor)


def load_group(group: str, name: str) -> DictConfig:
    """Composes one choice of a config group, with what it takes from the top level's defaults."""
    chosen = _composed(group, name)
    OmegaConf.resolve(chosen)
    return chosen


@lru_cache
def _choice(group: str, name: str) -> Any:
    """Composes one choice of a config group, its references to the top level left open."""
    return OmegaConf.to_container(_composed(group, name), resolve=False)


def _composed(group: str, name: str) -> DictConfig:
    with _hydra_of_conf():
        return OmegaConf.select(compose("train", overrides=[f"{group}={name}"]), group)


@contextmanager
def _hydra_of_conf() -> Iterator[None]:
    """One thread at a time composes from conf/; the Hydra of an application that calls is put back."""
    with _HYDRA:
        callers = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
                yield
        finally:
            GlobalHydra.instance().hydra = callers


def step_size(table: Any, compressor: str, bitrate: float) -> float:
    """Looks up a learning rate in the table that experiments give as `lr_of`.

    It is one by compressor, or by compressor and bitrate, such as
    {default: 0.5, signsgd: 0.001, qsgd: {0.1: 0.15}}.
    """
    entry = table.get(compressor, table["default"])
    if isinstance(entry, Mapping):
        entry = entry.get(bitrate, table["default"])
    return float(entry)


# ${step_size:${lr_of},${names.compressor},${bitrate}} in an experiment's yaml.
OmegaConf.register_new_resolver("step_size", step_size, replace=True)


def build(config: DictConfig, **arguments: Any) -> Any:
    """Makes the object that `config` describes by its `_target_`; failures name the setting and its file.

    Raises:
        InputError: a setting is not usable.
    """
    check_arguments(config)
    try:
        return instantiate(config, **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise type(cause)(f"{cause}; see {described_in(config)}") from cause
        raise InputError(
            f"{config.get('_target_')} can not be built: {cause or error}; see {described_in(config)}"
        ) from error
