"""Vectors to measure compressors on, with the side information that a server would hold for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from wzfl.errors import InputError
from wzfl.public import stable_seed
from wzfl.tensor_file import load_tensors, save_tensors


class Source(Protocol):
    """Draws updates and side information, both `[clients, dim]` float32; one seed, one draw."""

    @property
    def name(self) -> str:
        """Names the distribution in tables, figures and file names."""
        ...

    @property
    def snr_db(self) -> float | None:
        """10 log10(|x|**2 / |x - y|**2) that is asked for; None where the data decide."""
        ...

    def draw(self, seed: int) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class _Synthetic:
    """Draws independent rows; side information is the row less a Gaussian residual.

    Attributes:
        clients: rows of a draw.
        dim: coordinates of a row.
        snr_db: 10 log10(|x|**2 / E|x - y|**2), for every row; -100 to 100.

    Raises:
        InputError: a size is below 1, or the ratio is none that float32 can tell apart from others.
    """

    clients: int
    dim: int
    snr_db: float

    def __post_init__(self) -> None:
        if self.clients < 1 or self.dim < 1:
            raise InputError(
                f"clients and dim must be at least 1; got {self.clients} and {self.dim}"
            )
        if not -100 <= self.snr_db <= 100:
            raise InputError(f"snr_db must be -100 to 100; got {self.snr_db:g}")

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    def draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """See `Source`."""
        generator = torch.Generator().manual_seed(stable_seed("source", seed))
        updates = self._updates(generator)
        rms = updates.square().mean(dim=1, keepdim=True).sqrt()
        residuals = self._normal(generator) * rms * 10 ** (-self.snr_db / 20)
        return updates, updates - residuals

    def _updates(self, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def _normal(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self.clients, self.dim, generator=generator)


@dataclass(frozen=True)
class Gaussian(_Synthetic):
    """Draws coordinates from N(0, 1)."""

    def _updates(self, generator: torch.Generator) -> Tensor:
        return self._normal(generator)


@dataclass(frozen=True)
class Lognormal(_Synthetic):
    """Draws coordinates of either sign, with magnitudes exp(N(0, sigma**2)).

    Attributes:
        sigma: 0 to 5, beyond which float32 does not hold the squares; above 1 a few coordinates hold most
            of the energy.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sigma <= 5:
            raise InputError(f"source.sigma must be 0 to 5; got {self.sigma:g}")

    @property
    def name(self) -> str:
        return f"lognormal_sigma_{self.sigma:g}"

    def _updates(self, generator: torch.Generator) -> Tensor:
        magnitudes = (self._normal(generator) * self.sigma).exp()
        return magnitudes.copysign(self._normal(generator))


@dataclass(frozen=True)
class Sparse(_Synthetic):
    """Draws coordinates from N(0, 1), and sets all but a random subset of them to 0.

    Attributes:
        density: the share that is not 0, above 0 and at most 1; rounded to whole coordinates, at least 1.
    """

    density: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.density <= 1:
            raise InputError(f"source.density must be above 0 and at most 1; got {self.density}")

    @property
    def name(self) -> str:
        return f"sparse_density_{self.density:g}"

    def _updates(self, generator: torch.Generator) -> Tensor:
        places = torch.rand(self.clients, self.dim, generator=generator).argsort(dim=1)
        count = max(1, round(self.density * self.dim))
        return self._normal(generator) * (places < count)


@dataclass(frozen=True)
class Recorded:
    """Reads updates of one round of a training run, and what the server then expected, whatever the seed.

    Attributes:
        folder: where `save_recording` has written.
        recording: the file's name, without its suffix.
    """

    folder: str
    recording: str

    @property
    def name(self) -> str:
        return f"gradients_{self.recording}"

    @property
    def snr_db(self) -> float | None:
        return None

    def draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """See `Source`.

        Raises:
            InputError: the file is absent or damaged.
        """
        path = recording_path(Path(self.folder), self.recording)
        if not path.is_file():
            there = sorted(file.stem for file in path.parent.glob("*.safetensors"))
            raise InputError(
                f"no recorded updates {path}; choose source.recording from"
                f" {', '.join(there) or '(none yet)'}, or record with"
                " `python scripts/record_updates.py` (experiment=digits_by_class where there is no MNIST)"
            )
        try:
            tensors, _ = load_tensors(path)
            return tensors["updates"], tensors["side"]
        except (OSError, KeyError) as error:
            raise InputError(
                f"{path} is no recording of updates ({error}); remove it and record it anew with"
                " `python scripts/record_updates.py`"
            ) from error


def recording_path(folder: Path, recording: str) -> Path:
    """Returns the path of a recording in a folder of recordings."""
    return folder / f"{recording}.safetensors"


def save_recording(
    path: Path, updates: Tensor, side: Tensor, metadata: Mapping[str, object]
) -> None:
    """Writes what `Recorded` reads; the file is there as a whole or not at all.

    Raises:
        InputError: the folder can not be written.
    """
    assert updates.shape == side.shape
    tensors = {"updates": updates.float().contiguous(), "side": side.float().contiguous()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, tensors, {key: str(value) for key, value in metadata.items()})
    except OSError as error:
        raise InputError(
            f"recorded updates can not be written to {path.parent.absolute()} ({error.strerror});"
            " choose another folder with results_dir=..."
        ) from error
