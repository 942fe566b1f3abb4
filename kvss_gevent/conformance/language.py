"""The language of what a student reads: English as it stands in the code, or its translation from languages/.

The English text is the id of a message. An id with {fields} also stands for every text that it could have made: what is
in the fields is translated in its turn, unless it is quoted, for then it is bytes of a server.
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
"""A field in a template, and in a template that re.escape() has made a pattern of."""


def english(text: str) -> str:
    """Return the text itself."""
    return text


def speaker(language: str) -> Say:
    """Return what translates into a language of LANGUAGES."""
    return english if language == ENGLISH else _Speaker(catalogue(language)).say


def from_environment(environment: Mapping[str, str]) -> str:
    """Return the language of the locale, English where it is none of LANGUAGES."""
    locale = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    language = re.split(r"[_.@]", locale)[0].lower()
    return language if language in LANGUAGES else ENGLISH


@lru_cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return all messages of a language other than English, by their English."""
    messages: dict[str, str] = {}
    for file in sorted(files("kvss_gevent.conformance").joinpath("languages", language).iterdir(), key=str):
        messages |= tomllib.loads(file.read_text(encoding="utf-8"))
    return messages


class _Speaker:
    """Translates whole texts."""

    def __init__(self, messages: Mapping[str, str]) -> None:
        self._messages = messages
        # The most special template first: the one with the most letters of its own.
        templates = sorted(
            (text for text in messages if "{" in text), key=lambda text: -len(re.sub(r"{\w+}", "", text))
        )
        self._templates = [
            (re.compile(_ESCAPED.sub(r"(?P<\1>.*)", re.escape(text)), re.DOTALL), messages[text]) for text in templates
        ]

    def say(self, text: str) -> str:
        """Return the translation of a text, or the text where it has none."""
        if text in self._messages:
            return self._messages[text]
        if not _is_quoted(text):
            for pattern, message in self._templates:
                if found := pattern.fullmatch(text):
                    fields = found.groupdict()
                    return message.format(**{name: self.say(value) for name, value in fields.items()})
        return text


def _is_quoted(text: str) -> bool:
    """Tell whether a text is bytes and nothing else."""
    return text[:1] in ("'", '"') and text[-1:] == text[:1] and text.count(text[0]) == 2
