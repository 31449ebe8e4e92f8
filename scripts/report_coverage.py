"""Writes results/coverage.md: how much of wzfl/ the tests run, file by file.

    python scripts/report_coverage.py

Reads what `make coverage` measured. Exit status 1 if it is less than pyproject.toml asks for.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from coverage import Coverage
from run_command import run_command

from wzfl.environment import git_commit
from wzfl.reporting.markdown import generated_by, table


def main() -> int:
    measured = Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        details = Path(folder) / "coverage.json"
        total = measured.json_report(outfile=str(details))
        found = json.loads(details.read_text())
    path = Path("results/coverage.md")
    path.write_text(_report(found))
    print(f"{path}: {total:.1f} %")
    least = measured.get_option("report:fail_under")
    assert isinstance(least, float)
    return 0 if total >= least else 1


def _report(found: dict[str, Any]) -> str:
    commit = git_commit()
    rows = [_row(name, of["summary"]) for name, of in found["files"].items()]
    rows.append(_row("**all**", found["totals"]))
    return "\n".join(
        [
            "# Coverage\n",
            generated_by("make coverage"),
            f"Which statements and branches of wzfl/ the tests take without a GPU, with commit {commit};",
            "of compiled loops, `test_what_is_compiled_does_what_its_source_says`, where Python does them.",
            "It can not do those that call another library's functions, `dense_pass.py`, `products.py` and",
            "`frames.py`, of which tests see only what comes out.\n",
            table(pd.DataFrame(rows)),
            "",
        ]
    )


def _row(name: str, summary: dict[str, Any]) -> dict[str, str | int]:
    statements, branches = summary["num_statements"], summary["num_branches"]
    missed, untaken = summary["missing_lines"], summary["missing_branches"]
    return {
        "file": name,
        "statements": statements,
        "missed": missed,
        "branches": branches,
        "not taken": untaken,
        "% of statements": _percent(statements - missed, statements),
        "% of branches": _percent(branches - untaken, branches),
        "% of both": _percent(statements + branches - missed - untaken, statements + branches),
    }


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "—"


if __name__ == "__main__":
    run_command(main)
