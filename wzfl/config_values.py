"""Checks of a config's values against the types of what takes them; messages name the value that is wrong."""

import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pkgutil import resolve_name
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, SchemaError

from wzfl.errors import InputError

# Strict, or "1" would be a number and 1 a truth value; torch's hints name tensors.
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_COUNT = Annotated[int, Field(ge=1)]
# What is none of a target's arguments, but says how it is called.
_OF_HYDRA = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
# Of train.yaml, record_updates.yaml and rate_distortion.yaml; which bitrates there are, the compressor says.
_OF_COMMANDS: Mapping[str, Any] = {
    "bitrate": Annotated[float, Field(gt=0)],
    "rounds": _COUNT,
    "seed": Annotated[int, Field(ge=0, lt=2**63)],
    "clients": _COUNT,
    "clients_per_round": _COUNT,
    "resend": bool,
    "checkpoint_every": _COUNT | None,
    "eval_every": _COUNT,
    "device": str,
    "threads": Annotated[int, Field(ge=1, le=1024)] | None,
    "data_dir": str,
    "results_dir": str,
    "lr_of": dict[str, Any],
    "sweep": str | float,
    "record_rounds": Annotated[list[_COUNT], Field(min_length=1)],
    "recording": str,
    "dim": _COUNT,
    "snr_db": float,
    "draws": _COUNT,
}


def check_command(config: DictConfig, file: str, known: Collection[str]) -> None:
    """Checks the settings of a command, those that belong to no group also for their values.

    Args:
        config: the command's.
        file: the name of its file in conf/, for messages.
        known: the settings that the command has.

    Raises:
        InputError: one does not fit, or is none of them, or stands in place of a group's settings.
    """
    for key in map(str, config):
        if key not in known:
            raise InputError(no_such_setting(key, config))
        if key not in _OF_COMMANDS and not isinstance(config[key], DictConfig):
            raise InputError(
                f"{key} must be settings, as those in conf/{key}/; got {config[key]!r}; did you mean"
                f" `- override /{key}: {config[key]}` under defaults?"
            )
    for key, hint in _OF_COMMANDS.items():
        if key in config:
            _check(key, config[key], TypeAdapter(hint, config=_STRICT), f"conf/{file}.yaml")


def check_arguments(config: DictConfig) -> None:
    """Checks the arguments of `_target_`, and of targets in it, against its signature and type hints.

    Raises:
        InputError: one does not fit, or is not taken.
    """
    try:
        target = resolve_name(config["_target_"])
        taken, adapters = _parameters(target), _adapters(target)
    except (ImportError, AttributeError, ValueError):
        return  # hydra says that there is none
    takes_any = any(each.kind is each.VAR_KEYWORD for each in taken.values())
    for key, value in config.items():
        if not (key in taken or key in _OF_HYDRA or takes_any):
            raise InputError(
                f"no such setting {_full_key(config, str(key))}; {config['_target_']} takes"
                f" {', '.join(taken)}; see {described_in(config)}"
            )
        if isinstance(value, DictConfig) and "_target_" in value:
            check_arguments(value)
        elif key in adapters:
            _check(_full_key(config, str(key)), value, adapters[str(key)], described_in(config))


def no_such_setting(key: str, config: DictConfig) -> str:
    """Words the message for a key that is not expected in `config`, with what may have been meant."""
    full = _full_key(config, key)
    beside = {str(each): _full_key(config, str(each)) for each in config if each != key}
    elsewhere = {path.split(".")[-1]: path for path in _paths(config._get_root()) if path != full}
    for paths in (beside, elsewhere):
        if close := get_close_matches(key, paths, n=1):
            return f"no such setting {full}; did you mean {paths[close[0]]}?"
    return f"no such setting {full}; --help lists those there are"


def _paths(node: Any) -> Iterator[str]:
    """Yields the full keys of all below a node of a config, but of what is Hydra's."""
    for key in node if isinstance(node, DictConfig) else ():
        if key != "hydra":
            yield _full_key(node, str(key))
            yield from _paths(node._get_node(key))


def described_in(config: DictConfig) -> str:
    """Names the file that describes a part of a config, as far as the config tells its choices."""
    group, root = _full_key(config).split(".")[0], config._get_root()
    choice = OmegaConf.select(root, f"names.{group}", throw_on_resolution_failure=False)
    return f"conf/{group}/{choice}.yaml" if choice else f"conf/{group}/"


def _full_key(config: DictConfig, key: str | None = None) -> str:
    return str(config._get_full_key(key))


@lru_cache
def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target, eval_str=True).parameters


@lru_cache
def _adapters(target: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    """Makes a check for each argument whose type is one that a config can hold."""
    adapters = {}
    for name, parameter in _parameters(target).items():
        if parameter.annotation is not inspect.Parameter.empty:
            try:
                adapters[name] = TypeAdapter(parameter.annotation, config=_STRICT)
            except (PydanticUserError, SchemaError):
                continue  # a protocol, of which a config describes an instance by its own _target_
    return adapters


def _check(key: str, value: Any, adapter: TypeAdapter[Any], file: str) -> None:
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    try:
        adapter.validate_json(json.dumps(plain))  # in which a list may be a tuple
    except ValidationError as error:
        what = _expected(error.errors()[0])
        if what == "be a list" and isinstance(plain, int | float):
            what += f", e.g. {key}=[{plain}]"
        raise InputError(f"{key} must {what}; got {plain!r}; see {file}") from error


def _expected(error: ErrorDetails) -> str:
    """Words what pydantic expected of a value."""
    if error["type"] == "missing":  # of a tuple
        return "have more items"
    return error["msg"].split(" should ", 1)[-1].replace("a valid array", "a list")
