"""wzfl without training: as the README shows it, and from a wheel."""

import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

import wzfl
from wzfl.config import _choice, compressor_names

ROOT = Path(__file__).parents[1]


def test_the_public_names():
    assert {"Public", "build_compressor", "PayloadError", "InputError"} <= set(wzfl.__all__)
    for name in wzfl.__all__:
        assert hasattr(wzfl, name)


def test_ten_lines_outside_any_training():
    updates = torch.randn(5, 10_000, generator=torch.Generator().manual_seed(0))
    public = wzfl.Public(seed=0, round=1, clients=range(5))
    compressor = wzfl.build_compressor("eden", bitrate=2)
    payloads = compressor.encode(updates, public)
    estimates = compressor.decode(payloads, torch.zeros(5, 10_000), public)
    assert (estimates - updates).norm() / updates.norm() == pytest.approx(0.133**0.5, rel=0.05)
    with pytest.raises(wzfl.PayloadError):
        compressor.decode([b"", *payloads[1:]], torch.zeros(5, 10_000), public)


def test_a_compressor_is_built_within_an_application_of_hydra(tmp_path):
    (tmp_path / "mine.yaml").write_text("bitrate: 3")
    _choice.cache_clear()
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert wzfl.build_compressor("eden", bitrate=compose("mine").bitrate).bitrate == 3
        assert compose("mine") == {"bitrate": 3}  # it goes on where it was


def test_compressors_are_built_by_several_threads_at_once():
    _choice.cache_clear()
    names = compressor_names()[:8]
    with ThreadPoolExecutor(8) as threads:
        built = list(threads.map(wzfl.build_compressor, names))
    assert built == [wzfl.build_compressor(name) for name in names]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_an_installed_wheel_finds_its_yaml(site):
    program = (
        "import wzfl, torch; print(wzfl.__file__)\n"
        "c = wzfl.build_compressor('wyner_ziv', bitrate=2)\n"
        "print(len(c.encode(torch.zeros(1, 100), wzfl.Public(0, 0, (0,)))[0]))\n"
        "from wzfl.config import load_group; print(load_group('side_information', 'last').margin)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=site.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        check=True,
    )
    where, size, margin = done.stdout.split()
    assert Path(where).is_relative_to(site)
    assert int(size) == 25 + 4 + 4 + 10
    assert float(margin) > 1
