"""`kvss serve`: reads the settings, opens the store and the listening socket, and runs a server."""

import argparse
import logging
import signal
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvss_gevent.core.logged_conversation import logged
from kvss_gevent.core.session import Session
from kvss_gevent.models import DEFAULT, MODULES
from kvss_gevent.server.accepting.listener import check_exposure, listening, listening_for_metrics, shown_address
from kvss_gevent.settings import signals
from kvss_gevent.settings.addresses import Endpoint, take_endpoint
from kvss_gevent.settings.config import Config, flag, options, variable
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.kinds import STORE_FORMS
from kvss_gevent.settings.log import set_up
from kvss_gevent.settings.reference import print_config
from kvss_gevent.settings.sources import Settings, add_options, read_settings
from kvss_gevent.settings.streams import OutputLost
from kvss_gevent.stores.open import OPENERS, is_shared, open_store, opener, refuse_password

if TYPE_CHECKING:
    from kvss_gevent.trace.flight import FlightRecorder

logger = logging.getLogger("kvss")

NOT_GIVEN = Endpoint("", -1)

EPILOG = f"""\
A flag overrides its KVSS_ variable, the variable overrides the file of --config,
and the file overrides the default. A size may end in K, M or G.

examples:
  kvss serve                            on 127.0.0.1:5050, in memory
  kvss serve 127.0.0.1:0 -v             on a free port; logs connections
  kvss serve --store disk:kvss.data     data survives a restart
  kvss serve unix:/run/kvss.sock        on a Unix socket
  kvss serve --config kvss.toml --check-config
  kvss serve --print-config > kvss.toml

signals:
{chr(10).join(f"  {', '.join(row.names):<28}{row.says}" for row in signals.TABLE)}

exit codes:
  0        stopped by SIGTERM or Ctrl-C, or the configuration is correct
  2        wrong usage
  3        cannot listen, open the store, load the model, or write to standard output
  128 + N  ended at once by a second signal N
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvss serve`."""
    parser.usage = "kvss serve [options] [HOST:PORT | HOST PORT | unix:PATH]"
    parser.epilog = EPILOG
    parser.add_argument(
        "words", nargs="*", metavar="HOST:PORT", help="address to listen on (127.0.0.1:5050; KVSS_HOST and KVSS_PORT)"
    )
    add_options(parser)
    parser.add_argument(
        "-v",
        action="count",
        default=0,
        dest="verbose",
        help="same as --log-level info: log connections; -vv, debug: also requests, never values",
    )
    parser.add_argument("--print-config", action="store_true", help="print all settings, and where each comes from")
    parser.add_argument("--check-config", action="store_true", help="only check the settings, and start no server")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes, or print or check the settings; returns the exit code."""
    given = {**vars(args), **given_words(args)}
    settings = read(given)
    config = settings.config
    if args.print_config:
        print("\n".join(print_config(settings)))
        return Exit.OK
    check_exposure(config)
    if config.workers > 1 and config.model == DEFAULT and not is_shared(config.store):
        raise Fail(
            f"--workers {config.workers} needs a store that processes share, and {config.store} lives in one process",
            "Give one that all processes can use, such as --store disk:kvss.data, or remove --workers.",
        )
    if args.check_config:
        opener(config.store)
        check_files(config)
        print("kvss: the configuration is correct")
        return Exit.OK
    for number in signals.numbers(signals.Act.RELOAD, signals.Act.REPORT, signals.Act.DUMP, signals.Act.IGNORE):
        signal.signal(number, signal.SIG_IGN)  # until the server has its handlers
    set_up(config.log_level, config.log_format)
    warn_of_options_of_other_stores(config)
    if config.lab:
        logger.warning("--lab: any client can keep this server busy")
    converse = logged if config.log_level == "debug" else Session
    if config.model != DEFAULT:
        from kvss_gevent.cli.serve_model import serve_model

        return serve_model(config, converse, announce)
    from kvss_gevent.server.run import Outside, observed, serve, serve_with_workers

    outside = Outside(lambda: read(given).config, announce, converse, recorder)
    if config.workers > 1:
        with listening(config) as listener, listening_for_metrics(config) as metrics:
            return serve_with_workers(listener, metrics, config, outside)
    store = open_store(config)
    with listening(config) as listener, listening_for_metrics(config) as metrics:
        return serve(listener, config, store, outside, observed(config, metrics))


def warn_of_options_of_other_stores(config: Config) -> None:
    """Warn of given options that have no effect: users would rely on a limit or a promise that does not exist."""
    scheme = config.store.partition(":")[0]
    for option in options():
        name, stores = option.name, option.metadata["stores"]
        if stores and scheme not in stores and getattr(config, name) != option.default:
            logger.warning("%s (%s) has no effect with --store %s:", flag(name), variable(name), scheme)


def check_files(config: Config) -> None:
    """Check that the model, the users and the certificates of the settings can be used. Raises Fail."""
    if config.model != DEFAULT:
        from kvss_gevent.cli.serve_model import checked_model

        checked_model(config)
        return
    from kvss_gevent.server.security.protection import Protection

    Protection(config)


def given_words(args: argparse.Namespace) -> Mapping[str, str | None]:
    """Return host, port and unix as the command line gives them, in words or flags. Raises Fail."""
    endpoint, rest = take_endpoint(args.words, {}, least_port=0, default=NOT_GIVEN)
    if rest:
        raise Fail(f"{rest[0]!r} is one word too many", "Give HOST:PORT, HOST PORT or unix:PATH.")
    if endpoint.user:
        raise Fail(f"the address has a user, {endpoint.user!r}", "A server listens for all users: remove the user.")
    given = {
        "host": endpoint.host or None,
        "port": None if endpoint.port < 0 else str(endpoint.port),
        "unix": endpoint.path or None,
    }
    for name in ("port", "unix"):
        flag_text, word = getattr(args, name), given[name]
        if flag_text is not None and word is not None:
            raise Fail(f"the {name} is given twice, {word} and --{name} {flag_text}", "Give it once.")
        given[name] = word if flag_text is None else flag_text
    return given


def read(given: Mapping[str, Any]) -> Settings:
    """Read the settings from flags, environment and file; -v sets --log-level. Raises Fail."""
    if given["verbose"] and given["log_level"] is None:
        given = {**given, "log_level": ("info", "debug")[min(given["verbose"], 2) - 1]}
    settings = read_settings(given, choices={"model": tuple(MODULES)})
    refuse_password(settings.config.store)
    if settings.config.store.partition(":")[0] not in OPENERS:
        raise settings.wrong("store", STORE_FORMS)
    for name in ("lab", "users"):
        if settings.config.strict and getattr(settings.config, name):
            raise Fail(
                f"--strict and --{name} cannot be used together",
                f"--{name} adds commands to the five of the course document: remove one of the two options.",
            )
    return settings


def recorder(config: Config) -> "FlightRecorder | None":
    """Return the flight recorder of this process, or None if the settings do not ask for one."""
    if not config.flight_recorder_s:
        return None
    from kvss_gevent.trace.flight import FlightRecorder

    return FlightRecorder(config.model, config.flight_recorder_s, config.slow_ms)


def announce(listener: socket.socket) -> None:
    """Print where the server listens: the only line that it promises. A closed standard output is no error."""
    try:
        print(f"kvss: listening on {shown_address(listener)}", flush=True)
    except OutputLost as lost:
        if not lost.closed:
            raise
