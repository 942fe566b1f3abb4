"""Reads a Config from flags, environment and a TOML file, in this order, and notes where each value comes from."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Final

from kvss_gevent.settings import variables
from kvss_gevent.settings.config import Config, flag, key, options, variable
from kvss_gevent.settings.fail import Fail
from kvss_gevent.settings.kinds import SWITCH, Kind
from kvss_gevent.settings.named_files import UnreadableFile, read_parsed

DEFAULT: Final = "default"
MAX_FILE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration, and for each field where its value comes from."""

    config: Config
    origins: Mapping[str, str]
    """From a field's name to a flag, a variable, `FILE: KEY`, or DEFAULT."""

    def wrong(self, name: str, takes: str) -> Fail:
        """Return the error that a field has a value which cannot be used."""
        return _wrong(self.origins[name], str(getattr(self.config, name)), takes)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --config and a flag for every field of Config except the host, which is an argument without a flag."""
    parser.add_argument("--config", metavar="FILE", help=f"file with settings, as TOML ({variables.CONFIG})")
    for option in options():
        if option.name == "host":
            continue
        kind = option.metadata["kind"]
        takes: dict[str, Any] = (
            {"metavar": kind.placeholder} if kind.placeholder else {"action": "store_const", "const": "on"}
        )
        default = (kind.says or kind.show)(option.default)
        text = f"{option.metadata['help']} ({default}; {variable(option.name)})".replace("%", "%%")
        parser.add_argument(flag(option.name), dest=option.name, **takes, help=text)


def read_settings(
    given: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> Settings:
    """Build a Config from flags (None where not given), then variables, then the file, then defaults. Raises Fail.

    choices: for fields whose values are known elsewhere, such as names of models. An empty variable or text counts as
    not given.
    """
    path = given.get("config") or environ.get(variables.CONFIG)
    file = read_file(path) if path else {}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for option in options():
        name, kind = option.name, option.metadata["kind"]
        sources = (
            (flag(name) if name != "host" else "HOST", given.get(name)),
            (variable(name), environ.get(variable(name)) or None),
            (f"{path}: {key(name)}", file.get(key(name)) or None),
        )
        origin, text = next(((origin, text) for origin, text in sources if text is not None), (DEFAULT, None))
        origins[name] = origin
        if text is None:
            continue
        names = (choices or {}).get(name)
        try:
            values[name] = kind.read(text)
        except ValueError:
            raise _wrong(origin, text, f"one of {', '.join(names)}" if names else kind.takes) from None
        if names and values[name] not in names:
            raise _wrong(origin, text, f"one of {', '.join(names)}")
    return Settings(Config(**values), origins)


def read_file(path: str) -> dict[str, str]:
    """Return the texts of the keys in a TOML file. Raises Fail."""
    import tomllib

    try:
        # A message shows 1e3 as the file has it, and not as 1000.0.
        table = read_parsed(Path(path), MAX_FILE_BYTES, partial(tomllib.loads, parse_float=str))
    except UnreadableFile as error:
        raise Fail(
            f"cannot read {path}: {error}",
            "Give a file of settings. A line is KEY = VALUE, such as max-line = '64K'; texts need quotes.",
        ) from None
    known = {key(option.name): option.metadata["kind"] for option in options()}
    for name in table:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise Fail(
                f"{path}: there is no setting {name!r}",
                f"Did you mean {near[0]!r}?" if near else "`kvss serve --print-config` lists all of them.",
            )
    return {name: _text(f"{path}: {name}", known[name], value) for name, value in table.items()}


def _text(origin: str, kind: Kind, value: object) -> str:
    if isinstance(value, bool) and kind is SWITCH:
        return SWITCH.show(value)
    if isinstance(value, bool):
        raise Fail(f"{origin} is {'true' if value else 'false'}", f"Give {kind.takes}.")
    try:
        if isinstance(value, str | int):
            return str(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        raise Fail(f"{origin} has too many digits", "Give a smaller number.") from None
    what = {"dict": "table", "datetime": "date"}.get(type(value).__name__, type(value).__name__)
    raise Fail(f"{origin} is a {what}", f"Give {kind.takes}.")


def _wrong(origin: str, text: str, takes: str) -> Fail:
    return Fail(f"{origin} is {text!r}", f"Give {takes}.")
