"""What the documentation says there is, is there."""

import re
from pathlib import Path

import pandas as pd

from wzfl.reporting.summary import load_sweep

ROOT = Path(__file__).parents[1]


def test_the_faults_that_are_listed_have_their_tests():
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("*.py"))
    rows = re.findall(r"^\|.*\| `(test_\w+)` \|$", (ROOT / "docs/reliability.md").read_text(), re.M)
    assert len(rows) >= 25
    assert [name for name in rows if f"def {name}(" not in tests] == []


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_column_that_is_explained_is_there_once_a_table_is_read():
    (section,) = re.findall(
        r"^## `runs.csv`.*?(?=^## )", (ROOT / "docs/data.md").read_text(), re.M | re.S
    )
    names = re.findall(r"^\| (`.*?) \|", section, re.M)
    told = {column for cell in names for column in re.findall(r"`(\w+)`", cell)}
    assert len(told) > 30
    for path in (ROOT / "results").glob("**/runs.csv"):
        sweep = pd.read_csv(path, nrows=1).sweep[0]
        assert told - set(load_sweep(path.parent, sweep)[0].columns) == set(), path


def test_every_column_of_the_tables_is_explained():
    text = (ROOT / "docs/data.md").read_text()
    sections = re.split(r"^## `([\w.]+)`", text, flags=re.M)
    told = dict(zip(sections[1::2], sections[2::2], strict=True))
    for name, section in told.items():
        for path in (ROOT / "results").rglob(name):
            if {"runs", "benchmark"} & set(path.relative_to(ROOT / "results").parts[:-1]):
                continue  # of a single run, and of measurements of speed
            plain = [re.sub("_(low|high)$", "", c) for c in pd.read_csv(path, nrows=0).columns]
            assert [column for column in plain if f"`{column}`" not in section] == [], path
