"""Writes results/mutants.md: which mutants of the code the tests notice, and why the others survive.

    python scripts/report_mutants.py

Reads what `mutmut run` left in mutants/, and docs/surviving_mutants.yaml, which says of survivors, each by
its file and its changed line, why no test notices them. Exit status 1 if one is not explained, or if an
explanation is of none that survives.
"""

import difflib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import yaml
from run_command import argument_parser, run_command

from wzfl.environment import git_commit
from wzfl.reporting.markdown import generated_by

_FOLDER, _EXPLAINED = Path("mutants"), Path("docs/surviving_mutants.yaml")
_OUTCOMES: dict[int | None, str] = {
    37: "refused by mypy",
    **dict.fromkeys((1, 3), "killed by tests"),
    **dict.fromkeys((36, 24, -24, 152, 255), "timed out"),
    0: "survived",
    33: "no test",
    None: "not run",
}
_NOTICED = ["refused by mypy", "killed by tests", "timed out"]
_UNNOTICED = ["suspicious", "survived", "no test"]


@dataclass(frozen=True)
class Mutant:
    """One change of one line.

    Attributes:
        path: the changed file.
        change: the function, and its line before and after.
        outcome: what came of it, a key of the table's columns.
    """

    path: str
    change: str
    outcome: str

    @property
    def unnoticed(self) -> bool:
        return self.outcome in _UNNOTICED


def main() -> int:
    argument_parser(__doc__).parse_args()
    mutants = [mutant for path in sorted(_FOLDER.rglob("*.meta")) for mutant in read(path)]
    reasons = {
        (path, change): reason["why"].strip()
        for reason in yaml.safe_load(_EXPLAINED.read_text())
        for path, changes in reason["mutants"].items()
        for change in changes
    }
    alive = {(mutant.path, mutant.change) for mutant in mutants if mutant.unnoticed}
    path = Path("results/mutants.md")
    path.write_text(_report(mutants, reasons))
    print(path)
    stale, unexplained = reasons.keys() - alive, alive - reasons.keys()
    for title, keys in (("explained, but noticed", stale), ("unexplained", unexplained)):
        for key in sorted(keys):
            print(f"{title}: {': '.join(key)}", file=sys.stderr)
    return 1 if stale or unexplained else 0


def read(meta: Path) -> Iterator[Mutant]:
    """The mutants of one file, of which mutmut wrote `meta`, `spans` of lines and the mutated source."""
    outcomes = json.loads(meta.read_text())["exit_code_by_key"]
    mutated = meta.with_suffix("")
    lines = mutated.read_text().splitlines()
    spans = json.loads(Path(f"{mutated}.spans").read_text())["spans"]

    def source(name: str) -> list[str]:
        first, last = spans[name]
        return [line.strip().replace(name, "") for line in lines[first - 1 : last]]

    for key, code in outcomes.items():
        name = key.rpartition(".")[2]
        stem = name.rpartition("__mutmut_")[0]
        change = _change(source(f"{stem}__mutmut_orig"), source(name))
        function = stem.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
        outcome = _OUTCOMES.get(code, "suspicious")
        yield Mutant(str(mutated.relative_to(_FOLDER)), f"{function}: {change}", outcome)


def _change(before: list[str], after: list[str]) -> str:
    """The lines that differ, before and after, each in one line."""
    both = difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes()
    changed = [code[1:] for code in both if code[0] != "equal"]
    old = " ".join(line for begin, end, _, _ in changed for line in before[begin:end])
    new = " ".join(line for _, _, begin, end in changed for line in after[begin:end])
    return f"{old} → {new}"


def _report(mutants: list[Mutant], reasons: dict[tuple[str, str], str]) -> str:
    by_reason: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        if mutant.unnoticed:
            reason = reasons.get((mutant.path, mutant.change), "Unexplained.")
            by_reason[reason].append(mutant)
    commit = git_commit()
    parts = [
        "# Mutants\n",
        generated_by("make mutants"),
        f"What mypy and the tests notice of single changes to the code, with commit {commit} and mutmut"
        f" {version('mutmut')}. mutmut changes no constants of modules and no functions with decorators"
        " (properties, caches). A mutant counts as killed where mypy refuses it, where a test fails, or"
        " where tests take many times as long as without it. Explanations are in"
        " docs/surviving_mutants.yaml.\n",
        _table(mutants),
        "\n## Survivors\n",
    ]
    for reason, survivors in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        parts.append(f"{reason} ({len(survivors)})\n")
        parts += [f"- {m.path}: ``{m.change}``" for m in survivors]
        parts.append("")
    return "\n".join(parts)


def _table(mutants: list[Mutant]) -> str:
    outcomes = Counter((path, m.outcome) for m in mutants for path in (m.path, "all"))
    rows = [_row(path, outcomes) for path in [*sorted({m.path for m in mutants}), "all"]]
    return pd.DataFrame(rows).to_markdown(index=False, floatfmt=".1f")


def _row(path: str, outcomes: Counter[tuple[str, str]]) -> dict[str, str | int | float]:
    """Shares are of the mutants that were judged."""
    counts = {name: outcomes[path, name] for name in (*_NOTICED, *_UNNOTICED, "not run")}
    alive = sum(counts[name] for name in _UNNOTICED)
    killed = sum(counts[name] for name in _NOTICED)
    by_tests = killed - counts["refused by mypy"]
    return {
        "file": path,
        "mutants": sum(counts.values()),
        **counts,
        "% killed": 100 * killed / max(1, killed + alive),
        "% killed, of those that mypy accepts": 100 * by_tests / max(1, by_tests + alive),
    }


if __name__ == "__main__":
    run_command(main)
