"""`python -m kvss_gevent.loadtest.start_locust`: runs Locust under the name `kvss load`, without tracebacks at start.

Locust is imported before all other modules, because it patches modules when it is imported.
"""

import logging
import sys
from typing import Any, NoReturn


def main() -> None:
    """Run Locust. Ctrl-C before Locust listens to it is exit code 130; what it refuses is two lines and code 2."""
    sys.argv[0] = "kvss load run"
    try:
        from locust.argument_parser import LocustArgumentParser
        from locust.exception import RPCError
        from locust.main import main as locust

        from kvss_gevent.settings.streams import OutputLost, prepare

        prepare()
        LocustArgumentParser.exit = _leave
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


def _refuse_unknown(record: logging.LogRecord) -> bool:
    """Take the place of Locust's message about a user class that does not exist, after which it ends with code 1."""
    told, unknown, names = record.getMessage().strip().partition("Unknown User(s): ")
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
