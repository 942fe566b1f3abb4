"""Two languages: all that a student reads has its translation, and what a server sends is left alone."""

import ast
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from planted.server import BUGS
from reference_server import State, running

import kvss_gevent
from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.cases import CASES, EXTENSIONS
from kvss_gevent.conformance.causes import CAUSES
from kvss_gevent.conformance.races.diagram import TITLE
from kvss_gevent.conformance.report import WIDTH, as_text, list_cases
from kvss_gevent.conformance.running.runner import grade
from kvss_gevent.conformance.translation import ENGLISH, LANGUAGES, catalogue, english, from_environment, speaker
from kvss_gevent.grading.class_page import class_page
from kvss_gevent.grading.feedback_page import feedback_page
from kvss_gevent.grading.outcome import Outcome, OutcomeKind

TRANSLATED = [language for language in LANGUAGES if language != ENGLISH]
FOLDER = Path(kvss_gevent.__file__).parent
SAYING = {"say", "_Failed", "NoReply", "ContestLost", "Gone", "NotStarted", "Refused", "_not_started", "_cases"}
NAMED = {"cause", "expected", "received", "why", "sent", "counts", "lines", "lead", "kept", "notes"}
MODULES = (
    *(f"conformance/{name}" for name in ("peer", "report", "transcript")),
    *(f"conformance/running/{name}" for name in ("case_runner", "probe", "runner", "server_under_test")),
    *(
        f"conformance/{name}"
        for name in ("races/contests", "races/diagram", "process/submission", "process/shell_command")
    ),
    *(f"grading/{name}" for name in ("class_page", "feedback_page", "mark_files", "folder", "grader")),
)
FOR_SAMPLES = "7"


def texts_of_the_table() -> set[str]:
    return {text for case in CASES + EXTENSIONS for text in (case.title, case.hint)} | {
        text for cause in CAUSES for text in (cause.sentence, cause.advice)
    }


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_title_hint_and_cause_is_translated(language: str) -> None:
    messages = catalogue(language)
    assert texts_of_the_table() <= messages.keys()
    unused = {text for text in messages.keys() - texts_of_the_table() if text.endswith(".") and len(text) > 60}
    assert {text for text in unused if "{" not in text and "--command" not in text and "at a time" not in text} == set()
    for text, message in messages.items():
        assert unicodedata.is_normalized("NFC", message), text
        assert message
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", message)), text
        assert (text[-1] == ".") == (message[-1] == "."), text


def samples() -> Iterator[str]:
    """Yield each text that the checker may make, with 7 in each of its fields."""
    for name in MODULES:
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called in SAYING:
                    roots: list[ast.AST] = [*node.args]
                case ast.Call(func=ast.Name(id="map"), args=[ast.Name(id="say"), value]):
                    roots = [value]
                case ast.Assign(targets=[ast.Attribute(attr="_lost" | "_accident")], value=value):
                    roots = [value]
                case ast.keyword(arg="why", value=value):
                    roots = [value]
                case ast.Assign(targets=[ast.Name(id=called)], value=value) if called in NAMED:
                    roots = [value]
                case ast.FunctionDef(name="_notes" | "habits" | "__str__"):
                    roots = [
                        one.value for one in ast.walk(node) if isinstance(one, ast.Yield | ast.Return) and one.value
                    ]
                case _:
                    continue
            for root in roots:
                yield from filter(None, map(sample, parts(root)))


def parts(root: ast.AST) -> Iterator[ast.AST]:
    """Yield the texts of an expression: both of a choice, not those inside calls."""
    match root:
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*parts(body), *parts(orelse))
        case ast.BoolOp(values=values) | ast.Tuple(elts=values) | ast.List(elts=values):
            for value in values:
                yield from parts(value)
        case ast.Constant() | ast.JoinedStr():
            yield root


def sample(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    assert isinstance(node, ast.JoinedStr)
    return "".join(piece.value if isinstance(piece, ast.Constant) else FOR_SAMPLES for piece in node.values)


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_that_the_checker_makes_is_translated(language: str) -> None:
    say = speaker(language)
    made = {text for text in samples() if re.search(r"[a-z]{3}", text) and not text.startswith(("'", " ", ";"))}
    assert len(made) > 90
    made |= {TITLE} | {str(kind) for kind in OutcomeKind}
    assert {text for text in made if say(text) == text} == set()


def test_bytes_of_a_server_are_not_translated() -> None:
    say = speaker("vi")
    assert say("'closes'") == "'closes'"
    assert (
        say("'200 OK nothing more', then nothing within 2 s") == "'200 OK nothing more', rồi không có gì trong 2 giây"
    )
    assert say("what nobody has written") == "what nobody has written"
    assert english("closes") == "closes"


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "vi_VN.UTF-8"}, "vi"),
        ({"LC_ALL": "en_US.UTF-8", "LANG": "vi_VN.UTF-8"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "vi", "LANG": "C"}, "vi"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_is_that_of_the_locale(environment: dict[str, str], language: str) -> None:
    assert from_environment(environment) == language


def test_a_report_in_vietnamese_has_no_english_prose() -> None:
    with running(BUGS["rest-lost"].serve, State()) as port:
        card = grade("127.0.0.1", port, Plan(("framing",), profile="readme", timeout_s=0.5))
    text = as_text(card, speaker("vi"))
    assert "Nguyên nhân có khả năng nhất:" in text
    assert "Máy chủ bỏ phần đứng sau ký tự xuống dòng cuối cùng của gói tin." in text
    assert not re.search(
        r"\b(the|of|and|points?|received|expected|hint)\b", re.sub(r"'[^']*'|[a-z0-9]+-[a-z0-9-]+", "", text)
    ), text
    listed = list_cases(CASES + EXTENSIONS, speaker("vi"))
    assert "PUT một khóa mới là 201 CREATED" in listed
    assert max(map(len, (*listed.splitlines(), *text.splitlines()))) <= WIDTH


def test_the_pages_of_a_class_in_vietnamese_have_no_english_prose() -> None:
    with running(BUGS["rest-lost"].serve, State()) as port:
        card = grade("127.0.0.1", port, Plan(("framing",), timeout_s=0.2))
    assert card.causes
    outcomes = [Outcome(f"{kind:.1}1", kind, 1.0, 9, card=card) for kind in OutcomeKind]
    pages = class_page("K66", outcomes, speaker("vi")), feedback_page(outcomes[0], speaker("vi"))
    for whole in pages:
        assert '<html lang="vi">' in whole
        body = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", whole, flags=re.DOTALL)
        words = re.sub(r"'[^']*'|&#x27;.*?&#x27;|[a-z0-9]+-[a-z0-9-]+", "", re.sub(r"<[^>]+>", " ", body))
        english_words = (
            r"\b(the|of|and|points?|rules?|submissions?|names?|verdict|mark|cases?|causes?|graded|failed|none)\b"
        )
        assert re.findall(english_words, words, re.IGNORECASE) == []
