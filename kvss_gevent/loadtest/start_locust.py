"""`python -m kvss_gevent.loadtest.start_locust`: runs Locust under the name `kvss load`, without tracebacks at start.

Locust is imported before all other modules, because it patches modules when it is imported.
"""

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO


def main() -> None:
    """Run Locust. Ctrl-C before Locust listens to it is exit code 130; what it refuses is two lines and code 2."""
    sys.argv[0] = "kvss load run"
    try:
        from locust import argument_parser
        from locust.exception import RPCError
        from locust.main import main as locust

        from kvss_gevent.settings.streams import OutputLost, prepare

        prepare()
        parser = argument_parser.LocustArgumentParser
        parser.exit = _leave
        checked = partial(parser, config_file_open_func=_config_file)
        argument_parser.LocustArgumentParser = checked  # type: ignore[assignment,misc]
        parse = argument_parser.parse_locustfile_paths
        argument_parser.parse_locustfile_paths = _checked(parse)  # type: ignore[assignment]
        logging.getLogger("locust.main").addFilter(_refuse_unknown)
        try:
            try:
                locust()  # type: ignore[no-untyped-call]
            finally:
                sys.stdout.flush()
        except RPCError as error:
            _refuse(str(error), "End what uses this port, or give another with --master-bind-port.")
        except OutputLost as lost:
            sys.exit(lost.show("kvss load"))
    except KeyboardInterrupt:
        sys.exit(130)


def _leave(parser: Any, status: int = 0, message: str | None = None) -> NoReturn:
    """Take the place of the parser's exit: what it says of wrong usage has the form of all errors here."""
    from kvss_gevent.loadtest.command import HELP_SAYS

    if status:
        cause, _, remedy = str(message).strip().removeprefix(f"{parser.prog}: error: ").partition("\n")
        _refuse(cause, remedy or HELP_SAYS)
    sys.exit(status)


def _config_file(name: str) -> TextIO:
    """Open a file of --config for Locust, which reads it several times: a pipe has its text only once, or never."""
    path = Path(name)
    if path.exists() and not path.is_file():
        _refuse(f"--config {name} is not a regular file", "Write the options into a file, which is read several times.")
    return path.open()


def _checked(parse: Callable[[list[str]], list[str]]) -> Callable[[list[str]], list[str]]:
    """Return Locust's function that finds locustfiles, with our words for those that it does not find."""

    def parse_checked(paths: list[str]) -> list[str]:
        for text in paths:
            path = Path(text)
            remedy = "Give -f a file that ends with .py, or a folder with such files."
            if path.is_dir() and not any(path.rglob("*.py")):
                _refuse(f"the folder {text} holds no locustfile", remedy)
            if "://" not in text and not path.exists():
                _refuse(f"there is no locustfile {text}", remedy)
            if path.exists() and not path.is_dir() and path.suffix != ".py":
                _refuse(f"the locustfile {text} does not end with .py", remedy)
        return parse(paths)

    return parse_checked


def _refuse_unknown(record: logging.LogRecord) -> bool:
    """Take the place of Locust's messages about user classes that do not exist, after which it ends with code 1."""
    told, unknown, names = record.getMessage().strip().partition("Unknown User(s): ")
    if told == "No User class found!":
        _refuse(
            "the locustfile has no user class", "Write a class that inherits KvssUser, as loadtest/shopper.py does."
        )
    if unknown and not told:
        _refuse(f"there is no user class {names}", "`kvss load --list` lists the user classes.")
    return True


def _refuse(cause: str, remedy: str) -> NoReturn:
    from kvss_gevent.settings.fail import Fail

    fail = Fail(cause, remedy)
    fail.show("kvss load")
    sys.exit(fail.code)


if __name__ == "__main__":
    main()
