"""What is made from the code: every page of the documents stands in the site's navigation."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"- (?:[^\n:]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    docs = ROOT / "docs"
    assert listed == {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
