"""wzfl without training: as the README shows it, and from a wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import wzfl

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
