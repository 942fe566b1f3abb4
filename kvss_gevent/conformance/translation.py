"""The language of all texts that a student reads: English, as in the code, or a translation from languages/.

The English text is the id of a message. An id with {fields} matches every text that can be made from it. The content
of each field is translated too, unless it is quoted: then it is bytes of a server.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Final

Say = Callable[[str], str]
"""Returns a text in the language of the reader."""

ENGLISH: Final = "en"
LANGUAGES: Final = (ENGLISH, "vi")

_FIELDS: Final = re.compile(r"\{\w+\}")
_ESCAPED: Final = re.compile(r"\\\{(\w+)\\\}")
"""A field in a template after re.escape()."""


def english(text: str) -> str:
    """Return the text unchanged."""
    return text


def speaker(language: str) -> Say:
    """Return the function that translates into a language of LANGUAGES."""
    if language == ENGLISH:
        return english
    messages = catalogue(language)
    # The most specific template comes first: the one with the most letters outside of fields.
    texts = sorted((text for text in messages if "{" in text), key=lambda text: -len(re.sub(r"{\w+}", "", text)))
    templates = [
        (re.compile(_ESCAPED.sub(r"(?P<\1>.*)", re.escape(text)), re.DOTALL), messages[text]) for text in texts
    ]

    def say(text: str) -> str:
        if text in messages:
            return messages[text]
        if not _is_quoted(text):
            for pattern, message in templates:
                if found := pattern.fullmatch(text):
                    return message.format(**{name: say(value) for name, value in found.groupdict().items()})
        return text

    return say


def from_environment(environment: Mapping[str, str]) -> str:
    """Return the language of the locale, or English if it is not in LANGUAGES."""
    locale = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    language = re.split(r"[_.@]", locale)[0].lower()
    return language if language in LANGUAGES else ENGLISH


@lru_cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return all messages of a language other than English, by their English text."""
    messages: dict[str, str] = {}
    for file in sorted(files("kvss_gevent.conformance").joinpath("languages", language).iterdir(), key=str):
        messages |= tomllib.loads(file.read_text(encoding="utf-8"))
    return messages


def _is_quoted(text: str) -> bool:
    """Tell whether a whole text is one quoted value."""
    return text[:1] in ("'", '"') and text[-1:] == text[:1] and text.count(text[0]) == 2
