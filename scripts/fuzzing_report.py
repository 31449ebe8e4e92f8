"""Writes results/fuzzing.md: what was fuzzed so far, and which code the inputs that are kept reach.

    python scripts/fuzzing_report.py

Compiled loops are interpreted for it, so that their lines count too.
"""

import json
import os
import platform
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import coverage
import pandas as pd
from fuzz_payloads import KERNELS, RESULTS

_ROOT = Path(__file__).parents[1]
_GROUPS = {
    "wzfl/compressors/": ["wzfl/compressors/*.py"],
    "frames and integers": [
        f"wzfl/{name}.py" for name in ("frame", "bitpack", "elias", "entropy", "measured_scale")
    ],
    "wzfl/kernels/": ["wzfl/kernels/*.py"],
}


def main() -> None:
    os.environ["NUMBA_DISABLE_JIT"] = KERNELS["interpreted"]
    files, decoded = _replayed()
    rows = pd.read_csv(RESULTS)
    groups = {group: _in_group(files, group) for group in _GROUPS}
    listed = groups["wzfl/compressors/"] | groups["frames and integers"]
    _write(rows, decoded, groups, listed)


def _replayed() -> tuple[dict[Path, Any], dict[str, list[bool]]]:
    """Coverage by file, and whether each of a compressor's kept inputs is decoded."""
    measured = coverage.Coverage(
        data_file=None, branch=True, source=[str(_ROOT / "wzfl")], config_file=False
    )
    warnings.simplefilter("ignore", RuntimeWarning)  # of integers that wrap, as when compiled
    with measured.collect():
        import hostile_payloads as hostile

        decoded = {
            name: [hostile.decoded(name, data) for data in hostile.corpus(name)]
            for name in hostile.NAMES
        }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.json")
        measured.json_report(outfile=str(path))
        files = json.loads(path.read_text())["files"]
    by_path = {Path(name).resolve().relative_to(_ROOT): file for name, file in files.items()}
    return by_path, decoded


def _in_group(files: dict[Path, Any], group: str) -> dict[Path, Any]:
    return {
        path: file
        for path, file in sorted(files.items())
        if any(path.match(pattern) for pattern in _GROUPS[group])
    }


def _write(
    rows: pd.DataFrame,
    decoded: dict[str, list[bool]],
    groups: dict[str, dict[Path, Any]],
    listed: dict[Path, Any],
) -> None:
    from wzfl.reporting.markdown import generated_by, table, values

    hours, of_core = rows.seconds.sum() / 3600, rows.cpu_seconds.sum() / 3600
    path = RESULTS.with_suffix(".md")
    path.write_text(
        f"""# Fuzzing

{generated_by("make fuzz")}
{rows.executions.sum():,} payloads, chosen by the code that earlier ones reached, were decoded in
{hours:.2f} hours of fuzzing, which had a core for {of_core:.2f} of them: **{rows.crashes.sum()} crashes**.
A decode ends in a `PayloadError` or in finite numbers of the right shape. Anything else is a crash, and
so is a decode of 10 seconds, or one for which 256 MiB are not enough. With atheris {version("atheris")}
and Python {platform.python_version()}; commits: {values(rows.commit)}.

Loops were compiled as in use, but with the bounds of arrays checked, or interpreted, where the fuzzer sees
what is reached in them. Vectors have 45 coordinates, at 0.5, 2 and 3.5 bits each, or 16 where clients are
given a plan; scales are planned, or told by the payload; settings are those of conf/compressor/, and others
that have decoding of their own (scripts/hostile_payloads.py). Kept in tests/corpus/ are what honest clients
send, and what reaches different code.

{table(_by_compressor(rows, decoded))}

## Code reached

By the inputs that are kept, with loops interpreted. A payload reaches what decodes; what encodes, plans,
or predicts errors does not read it. So functions that no input enters are told apart, and listed below.

{table(pd.DataFrame([_share(group, files) for group, files in groups.items()]))}

File by file:

{table(pd.DataFrame([_share(str(path), {path: file}) for path, file in listed.items()]))}

### Functions that no input enters

{_lines(f"- {path}: {', '.join(names)}" for path, names in _not_entered(listed))}

### Lines that none reaches, in functions that some enter

{_lines(f"- {path}:{line} `{text}`" for path, line, text in _missed(listed))}
"""
    )
    print(path)


def _by_compressor(rows: pd.DataFrame, decoded: dict[str, list[bool]]) -> pd.DataFrame:
    """A row for each, and their sum."""
    executions = rows.pivot_table("executions", "compressor", "kernels", "sum", fill_value=0)
    sums = rows.groupby("compressor")[["seconds", "cpu_seconds", "crashes"]].sum()
    frame = executions.join(sums).astype(int)
    frame["inputs kept"] = [len(decoded[name]) for name in frame.index]
    frame["of these decoded"] = [sum(decoded[name]) for name in frame.index]
    frame.loc["all"] = frame.sum()
    names = {kernels: f"executions, {kernels}" for kernels in KERNELS}
    names |= {"cpu_seconds": "seconds of a core"}
    return frame.rename(columns=names).rename_axis("compressor").reset_index()


def _share(name: str, files: dict[Path, Any]) -> dict[str, str]:
    """Lines and branches of some files that are reached: of all, and of the functions entered."""
    functions = [function for file in files.values() for function in file["functions"].values()]
    entered = [function for function in functions if function["executed_lines"]]
    row = {"code": name}
    for which, counted in (("", functions), (" of functions entered", entered)):
        for kind, total in (("lines", "num_statements"), ("branches", "num_branches")):
            reached = sum(function["summary"][f"covered_{kind}"] for function in counted)
            count = sum(function["summary"][total] for function in counted)
            row[f"{kind}{which}"] = f"{reached / count:.1%} of {count}" if count else "—"
    return row


def _not_entered(files: dict[Path, Any]) -> Iterator[tuple[Path, list[str]]]:
    for path, file in files.items():
        functions = file["functions"].items()
        names = [f"`{name}`" for name, function in functions if not function["executed_lines"]]
        if names:
            yield path, names


def _missed(files: dict[Path, Any]) -> Iterator[tuple[Path, int, str]]:
    for path, file in files.items():
        text = (_ROOT / path).read_text().splitlines()
        for function in file["functions"].values():
            for line in function["missing_lines"] if function["executed_lines"] else []:
                yield path, line, text[line - 1].strip()


def _lines(lines: Iterator[str]) -> str:
    return "\n".join(lines)


if __name__ == "__main__":
    main()
