"""Who imports whom, as docs and design have it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wzfl

PACKAGE = Path(wzfl.__file__).parent
FOUNDATION = {
    "errors",
    "public",
    "bitpack",
    "entropy",
    "elias",
    "frame",
    "fast_frames",
    "rotation",
    "polar",
    "theory",
    "ledger",
    "norms",
    "residual_model",
    "threads",
    "byte_strings",
    "host",
    "plain_tensor",
    "kernels",
    "gpu",
}
NO_COMPRESSION = {"client", "server", "models", "datasets", "dataset_cache", "partition"}


def imports(path):
    """Modules that a file imports; those of wzfl as `wzfl.<first part>`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {
        ".".join(name.split(".")[:2]) if name.startswith("wzfl.") else name.split(".")[0]
        for name in found
    }


def ours(name):
    return {
        module.split(".")[1] for module in imports(PACKAGE / name) if module.startswith("wzfl.")
    }


def test_the_foundation_sees_only_itself():
    for name in FOUNDATION - {"kernels", "gpu"}:
        assert ours(f"{name}.py") <= FOUNDATION, name


def test_kernels_see_only_each_other():
    for path in (PACKAGE / "kernels").glob("*.py"):
        assert ours(f"kernels/{path.name}") <= {"kernels"}, path
    for path in (PACKAGE / "gpu").glob("*.py"):
        assert ours(f"gpu/{path.name}") <= {"gpu"}, path


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "compressors").glob("*.py")), ids=lambda p: p.stem
)
def test_compressors_see_the_foundation_and_each_other(path):
    assert ours(f"compressors/{path.name}") <= FOUNDATION | {"compressors"}


def test_training_knows_nothing_of_compression():
    allowed = {"errors", "public", "threads", "tensor_file"}
    for name in NO_COMPRESSION:
        assert ours(f"{name}.py") <= NO_COMPRESSION | allowed, name


def test_side_information_sees_no_compressor():
    policy = {
        *("errors", "history", "measured_scale", "norms"),
        *("residual_model", "side_information", "spread"),
    }
    assert ours("side_information.py") <= policy
    assert ours("learned.py") <= policy | {"linear"}
    assert ours("spread.py") <= {"history", "kernels", "public", "residual_model"}
    assert ours("linear.py") <= {"errors", "norms", "side_information"}
    assert ours("history.py") == set()


def test_reports_see_tables_only_and_figures_alone_matplotlib():
    allowed = {"errors", "reporting", "results", "tables", "theory"}
    for path in (PACKAGE / "reporting").glob("*.py"):
        assert ours(f"reporting/{path.name}") <= allowed, path
        drawn = path.stem.endswith("_plots") or path.stem in ("figures", "end_labels")
        assert drawn == ("matplotlib" in imports(path)), path
        if drawn:
            assert ours(f"reporting/{path.name}") <= {"reporting", "theory"}, path


def test_nothing_but_scripts_sees_reports():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "reporting":
            assert "wzfl.reporting" not in imports(path), path


def test_hydra_and_wandb_stay_at_the_edge():
    for path in PACKAGE.rglob("*.py"):
        found = imports(path)
        assert "hydra" not in found or path.name in ("config.py", "sweep_process.py"), path
        assert "wandb" not in found or path.name == "tracking.py", path


def test_a_run_starts_without_what_only_reports_or_downloads_need():
    """Each takes a tenth of a second or more to import, in every process of a sweep."""
    late = ["scipy.stats", "scipy.signal", "torchvision", "sklearn", "matplotlib", "wandb"]
    code = (
        "import sys, train, wzfl; wzfl.build_compressor('wyner_ziv'); "
        f"print(*sys.modules.keys() & set({late}))"
    )
    scripts = str(PACKAGE.parent / "scripts")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
