"""What the documentation says there is, is there."""

import re
from pathlib import Path

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
