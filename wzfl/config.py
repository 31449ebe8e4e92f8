"""The yaml files in conf/, and objects made from them."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from wzfl.compressors import Compressor
from wzfl.errors import InputError


def conf_dir() -> Path:
    """conf/ of the checkout, or the copy in an installed wheel."""
    package = Path(__file__).parent
    checkout = package.parent / "conf"
    return checkout if (checkout / "train.yaml").is_file() else package / "conf"


def build_compressor(name: str, **overrides: Any) -> Compressor:
    """The compressor of conf/compressor/<name>.yaml, e.g. `build_compressor("qsgd", bitrate=2)`.

    Raises:
        InputError: there is no such compressor, or it does not take such a setting.
    """
    folder = conf_dir() / "compressor"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"no compressor {name!r}; there are {', '.join(known)}")
    bitrate = overrides.pop("bitrate", 2)
    compressor = OmegaConf.merge(OmegaConf.load(folder / f"{name}.yaml"), overrides)
    root = OmegaConf.create({"bitrate": bitrate, "compressor": compressor})
    return build(root.compressor)


def load_group(group: str, name: str) -> DictConfig:
    """One choice of a config group, with everything it refers to resolved."""
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        config = compose("train", overrides=[f"{group}={name}"])
    chosen = OmegaConf.select(config, group)
    OmegaConf.resolve(chosen)
    return chosen


def build(config: DictConfig, **arguments: Any) -> Any:
    """The object that `config` describes by its `_target_`; failures name the setting.

    Raises:
        InputError: a setting is not usable.
    """
    try:
        return instantiate(config, **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        raise InputError(f"{config.get('_target_')} can not be built: {cause or error}") from error
