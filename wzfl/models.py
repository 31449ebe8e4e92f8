"""Models as functions of one flat `[dim]` vector."""

import copy
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parameters_to_vector

from wzfl.errors import InputError


@dataclass(frozen=True, eq=False)
class Model:
    """Logits from a flat weight vector and a batch of inputs.

    Attributes:
        build: makes the module, freshly initialised by torch's defaults. It must keep no buffers, as
            the flat vector holds parameters alone (so no batch normalisation), and draw nothing (no
            dropout), as rounds are repeated bit by bit. All of its parameters are trained.
    """

    build: Callable[[], nn.Module]
    _module: nn.Module = field(init=False, repr=False)
    # functional_call writes parameters into the module while it runs: each thread has its own.
    _own: threading.local = field(init=False, repr=False, default_factory=threading.local)

    def __post_init__(self) -> None:
        module = self.build()
        if names := [name for name, _ in module.named_buffers()]:
            raise InputError(f"a model must be a function of its parameters; got buffers {names}")
        if names := [name for name, each in module.named_modules() if _drops(each)]:
            raise InputError(
                f"a model must be a function of its parameters; got dropout {names}; set p=0 or leave it out"
            )
        if names := [name for name, each in module.named_parameters() if not each.requires_grad]:
            raise InputError(
                f"all parameters of a model are trained and sent; got requires_grad=False of {names}; keep"
                " what is fixed in plain attributes, which are neither parameters nor buffers"
            )
        object.__setattr__(self, "_module", module)

    @property
    def network(self) -> nn.Module:
        """The module itself; its own parameters mean nothing."""
        return self._module

    @cached_property
    def dim(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self._module.parameters())

    def init(self, seed: int) -> Tensor:
        """Initial weights `[dim]`, float32, drawn with `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return parameters_to_vector(self.build().parameters()).detach()

    def apply(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Logits `[n, classes]` for `weights` `[dim]` and `inputs` `[n, channels, height, width]`."""
        if not hasattr(self._own, "module"):
            self._own.module = copy.deepcopy(self._module)
        parameters = dict(self._module.named_parameters())
        parts = weights.split([parameter.numel() for parameter in parameters.values()])
        views = {
            name: part.view(parameter.shape)
            for (name, parameter), part in zip(parameters.items(), parts, strict=True)
        }
        return functional_call(self._own.module, views, (inputs,))


def _drops(module: nn.Module) -> bool:
    return isinstance(module, _DropoutNd) and module.p > 0


def logistic(input_shape: Sequence[int], classes: int) -> Model:
    """Multinomial logistic regression; convex."""
    return mlp(input_shape, classes, hidden=())


def mlp(input_shape: Sequence[int], classes: int, hidden: Sequence[int]) -> Model:
    """Fully connected layers with ReLU between them."""
    if min(hidden, default=1) < 1:
        raise InputError(f"model.hidden must be numbers of at least 1; got {list(hidden)}")
    widths = [prod(input_shape), *hidden, classes]

    def build() -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return Model(build)


def cnn(
    input_shape: Sequence[int],
    classes: int,
    channels: Sequence[int] = (32, 64),
    hidden: int = 512,
) -> Model:
    """Two 5x5 convolutions, each pooled by 2, then one hidden layer.

    By default it has 1 663 370 parameters on MNIST. Source: McMahan et al., "Communication-Efficient
    Learning of Deep Networks from Decentralized Data" (AISTATS 2017).
    """
    if len(channels) != 2 or min(*channels, hidden) < 1:
        raise InputError(
            "model.channels must be two numbers and model.hidden one, all at least 1; got"
            f" {list(channels)} and {hidden}"
        )
    colours, height, width = input_shape
    first, second = channels

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(colours, first, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * (height // 4) * (width // 4), hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    return Model(build)


def resnet(input_shape: Sequence[int], classes: int, width: int, blocks: int) -> Model:
    """The CIFAR ResNet of depth 6 * blocks + 2, with GroupNorm, which clients need not average.

    Source: He et al., "Deep Residual Learning" (CVPR 2016), section 4.2; Hsieh et al., "The Non-IID
    Data Quagmire" (ICML 2020) for GroupNorm in place of BatchNorm.
    """
    if min(width, blocks) < 1:
        raise InputError(
            f"model.width and model.blocks must be at least 1; got {width} and {blocks}"
        )
    for channels in (width, 2 * width, 4 * width):
        if channels % _groups(channels):
            raise InputError(
                f"model.width={width} makes {channels} channels, which do not divide into"
                f" {_groups(channels)} groups of GroupNorm; take a multiple of 8"
            )

    def build() -> nn.Module:
        layers: list[nn.Module] = [
            nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
            _norm(width),
            nn.ReLU(),
        ]
        channels = width
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(_Residual(channels, width * 2**stage, stride))
                channels = width * 2**stage
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
        return nn.Sequential(*layers)

    return Model(build)


class _Residual(nn.Module):
    """relu(x + two convolutions of x); x is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            _norm(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            _norm(outputs),
        )
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.skip(x) + self.branch(x))


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(_groups(channels), channels)


def _groups(channels: int) -> int:
    return max(1, channels // 8)
