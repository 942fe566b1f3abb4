"""What is made of the code is current and whole; every page of the documents stands in the site's navigation."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import kvss_gevent
from kvss_gevent.cli import whole_parser
from publishing import links, man, reference

ROOT = Path(__file__).parent.parent


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"- (?:[^\n:]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    docs = ROOT / "docs"
    assert listed == {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}


@pytest.mark.parametrize(("path", "content"), reference.made().items(), ids=lambda one: getattr(one, "name", ""))
def test_what_is_made_of_the_code_is_current(path: Path, content: str) -> None:
    assert path.read_text() == content, f"{path.name} is not as the code is: run `make reference`"


def test_the_manual_and_the_reference_name_every_command_and_option() -> None:
    manual = man.PAGE.read_text().replace("\\-", "-")
    page = (reference.FOLDER / "commands.md").read_text()
    for parser in whole_parser().walk():
        assert parser.prog in page or parser.prog == "kvss"
        assert parser.prog in manual or parser.prog.upper() in manual
        for flag in parser._option_string_actions:
            assert parser.prog == "kvss" or f"`{flag}" in page or f", {flag}" in page
            assert flag in manual or flag == "--version"


def test_the_reference_says_the_exit_codes_of_every_command() -> None:
    for name, parser in whole_parser().subcommands().items():
        assert reference.exit_codes(parser).startswith("0 "), name


def test_the_reference_has_every_public_name() -> None:
    page = (reference.FOLDER / "api.md").read_text()
    assert [name for name in kvss_gevent.__all__ if f"## {name}\n" not in page and f"| `{name}` |" not in page] == []


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_the_manual_page_is_sound() -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", man.PAGE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="here">x</h1><a href="#here">a</a><a href="sub/page.html#there">b</a><a href="https://example.org/x">c</a>'
        '<a href="#gone">d</a><img src="none.png"><a href="sub/page.html#gone">e</a>'
    )
    (tmp_path / "sub" / "page.html").write_text(
        '<a id="there" href="../index.html#here">f</a><a href="none.html">g</a>'
    )
    assert list(links.dead_links(tmp_path)) == [
        "index.html: this page has no place #gone",
        "index.html: there is no none.png",
        "index.html: sub/page.html has no place #gone",
        "sub/page.html: there is no none.html",
    ]
