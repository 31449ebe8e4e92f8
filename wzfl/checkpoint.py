"""A state on disk: tensors by safetensors, all else as JSON beside them; never a pickle.

What is read back equals what was written, bit by bit. A file is there as a whole or not at all, and one
that was damaged later is refused.
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wzfl.history import History
from wzfl.residual_model import Recent
from wzfl.side_information import Memory
from wzfl.spread import Spread
from wzfl.tensor_file import load_tensors, save_tensors

_VERSION = 2  # of the file's layout
_OBJECTS = {cls.__name__: cls for cls in (Memory, Recent, Spread)}
_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "dict": dict,
    "OrderedDict": OrderedDict,
}


class Unusable(Exception):
    """A checkpoint is damaged, or was written by other code."""


def save(path: Path, state: Any) -> None:
    """Writes numbers, tensors, arrays, containers, and objects of what a run's state is made of.

    Raises:
        OSError: the file can not be written; one of that name that was there before still is.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_packed(state, tensors))
    save_tensors(path, tensors, {"version": str(_VERSION), "tree": tree})


def load(path: Path, device: torch.device) -> Any:
    """Reads what `save` has written, and puts its tensors on `device`.

    Raises:
        Unusable: the file is damaged, or written by other code.
    """
    try:
        tensors, metadata = load_tensors(path)
    except OSError as error:
        raise Unusable(f"{path}: {error}") from error
    if metadata.get("version") != str(_VERSION):
        raise Unusable(f"{path}: got version {metadata.get('version')}; expected {_VERSION}")
    try:
        return _unpacked(json.loads(metadata["tree"]), tensors, device)
    except (KeyError, TypeError) as error:
        raise Unusable(f"{path}: written by other code ({error!r})") from error


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Turns `value` into JSON that names its tensors, which are added to `tensors`."""
    if isinstance(value, Tensor | np.ndarray):
        name, kind = f"{len(tensors):06}", "tensor" if isinstance(value, Tensor) else "array"
        tensors[name] = torch.as_tensor(value).detach().cpu().clone().contiguous()
        return {kind: name}
    if isinstance(value, bool | int | float | str | None):
        return value
    name = type(value).__name__
    if isinstance(value, History):
        return {name: _packed(value.contents(), tensors)}
    if name in _OBJECTS:
        each = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _packed(each, tensors)}
    if name in _CONTAINERS:
        items = value.items() if isinstance(value, dict) else value
        return {name: [_packed(item, tensors) for item in items]}
    raise TypeError(f"a checkpoint can not hold a {name}")


def _unpacked(packed: Any, tensors: dict[str, Tensor], device: torch.device) -> Any:
    if not isinstance(packed, dict):
        return packed
    ((name, content),) = packed.items()
    if name == "tensor":
        return tensors[content].to(device)
    if name == "array":
        return tensors[content].numpy()
    if name in _CONTAINERS:
        return _CONTAINERS[name]([_unpacked(item, tensors, device) for item in content])
    each = _unpacked(content, tensors, device)
    if name == History.__name__:
        return History.of(each, device)
    expected = [field.name for field in fields(_OBJECTS[name])]
    if sorted(each) != sorted(expected):
        raise Unusable(f"a {name} of {', '.join(each)}; expected {', '.join(expected)}")
    return _OBJECTS[name](**each)
