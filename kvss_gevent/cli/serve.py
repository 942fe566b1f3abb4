"""`kvss serve`: builds store, service and server from the configuration, and minds signals, logging and exit codes."""

import argparse
import errno
import gc
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvss_gevent.cli.options import add_options, to_config
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.shared_counters import BEAT_S
from kvss_gevent.models import DEFAULT
from kvss_gevent.protocol.wire import REPLY, STATS, Request, Status, Verb, shorten
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.stores.base import CannotOpen, Store
from kvss_gevent.stores.open import is_shared, open_store

if TYPE_CHECKING:
    from kvss_gevent.core.shared_counters import Counters
    from kvss_gevent.server.supervisor import Place

logger = logging.getLogger("kvss")

BACKLOG = 4096
"""Connections that wait in the kernel to be accepted; it lowers this to net.core.somaxconn."""

RESERVED_DESCRIPTORS = 64
"""For the interpreter, the event loop, the listener, logs and stores."""

CANNOT_LISTEN = 3
NO_STORE = 3

EPILOG = """\
A flag goes before its KVSS_ variable, and that before the default. A size may end in K, M or G.

exit codes: 0 stopped by SIGTERM or Ctrl-C, 2 usage, 3 cannot listen, open the store or load the model,
128 + N ended at once by a second signal N.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvss serve`."""
    parser.epilog = EPILOG
    parser.add_argument("host", nargs="?", metavar="HOST", help="address to listen on (127.0.0.1; KVSS_HOST)")
    parser.add_argument("port_argument", nargs="?", metavar="PORT", help="the same as --port")
    add_options(parser)
    parser.add_argument(
        "-v", action="count", default=0, dest="verbose", help="log connections; -vv also requests, never values"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; returns the exit code."""
    given = vars(args)
    if args.port_argument is not None:
        if args.port is not None:
            raise Fail(f"the port is given twice, {args.port_argument} and --port {args.port}", "Give it once.")
        given["port"] = args.port_argument
    config = to_config(given)
    logging.basicConfig(
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        level=(logging.WARNING, logging.INFO, logging.DEBUG)[min(args.verbose, 2)],
    )
    trace = trace_request if args.verbose > 1 else None
    if config.lab:
        logger.warning("--lab: any client can keep this server busy")
    if config.model != DEFAULT:
        from kvss_gevent.cli.serve_model import serve_model

        return serve_model(config, trace)
    config = fit_descriptors(config)
    if config.workers > 1:
        return serve_with_workers(config, trace)
    store = usable_store(config)
    listener = listen(config.host, config.port)
    return serve(listener, config, store, trace)


def serve_with_workers(config: Config, trace: Any) -> int:
    """Run several worker processes until a signal ends them; returns the exit code."""
    from kvss_gevent.server.supervisor import Crew

    if not is_shared(config.store):
        raise Fail(
            f"--workers {config.workers} needs a store that processes share, and {config.store} lives in one process",
            "Give one that all can use, such as --store disk:kvss.data, or leave --workers away.",
        )
    listener = listen(config.host, config.port)

    def work(place: "Place") -> int:
        try:
            return serve(listener, config, usable_store(config), trace, place)
        except Fail as fail:
            fail.show()
            return fail.code

    crew = Crew(config.workers, work, listener, config.drain_timeout_s)
    return crew.run(on_ready=lambda: announce(listener))


def usable_store(config: Config) -> Store:
    """Open the store that the configuration names. Raises Fail where that cannot be had."""
    try:
        return open_store(config)
    except CannotOpen as error:
        raise Fail(error.cause, error.remedy, Exit.USAGE if error.usage else NO_STORE) from None


def announce(listener: socket.socket) -> None:
    """Say where the server listens: the one line that is promised."""
    print(f"kvss: listening on {shown_address(listener)}", flush=True)


def serve(listener: socket.socket, config: Config, store: Store, trace: Any, place: "Place | None" = None) -> int:
    """Run the gevent server on a listening socket until a signal ends it; with a place, as one worker of several."""
    import gevent

    gevent.config.track_greenlet_tree = False  # a debugging aid that costs a walk up the stack for every connection
    from kvss_gevent.core.conversation import Limits
    from kvss_gevent.core.service import Service
    from kvss_gevent.server.gevent_server import KVServer
    from kvss_gevent.stores.disk.group_commit import coalesced
    from kvss_gevent.stores.remote.greenlet_store import parked

    store = parked(coalesced(store, on_thread=config.sync != "none"))
    limits = Limits(line_bytes=config.max_line_bytes, reply_bytes=config.max_unsent_bytes)
    service = Service(
        store,
        limits,
        stats_format=config.stats_format,
        trace=trace,
        stats=place.counters if place else None,
        colleagues=place.colleagues if place else (),
        lab=Lab() if config.lab else None,
    )
    server = KVServer(listener, service, config, place.someone_is_freer if place else None)
    stop = gevent.event.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        logger.info("signal %d: draining", number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT)[: 1 if place else 2]:
        gevent.signal_handler(number, on_signal, number)
    server.start()
    # What exists now stays: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    if place:
        orphaned = gevent.get_hub().loop.io(place.parent_gone, 1)
        orphaned.start(stop.set)
        gevent.spawn(_beat, place.counters)
        place.counters.beat()
        place.ready()
    else:
        announce(listener)
    stop.wait()
    if not server.drain(config.drain_timeout_s):
        logger.warning(
            "some clients were not done within --drain-timeout (%g s) and were cut off", config.drain_timeout_s
        )
    store.close()
    return Exit.OK


def _beat(counters: "Counters") -> None:
    from gevent import sleep

    while True:
        counters.beat()
        sleep(BEAT_S)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises Fail, with what to do, where that cannot be had."""
    where = f"{host}:{port}"
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise Fail(
            f"cannot find the address of {host!r}: {error}", "Give an address of this machine.", CANNOT_LISTEN
        ) from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        remedy = {
            errno.EADDRINUSE: "Stop the program that uses it, or choose another port: --port 0 picks a free one.",
            errno.EACCES: "Ports below 1024 need special rights; choose a higher one, such as 5050.",
            errno.EADDRNOTAVAIL: "Give an address of this machine, such as 127.0.0.1.",
        }.get(error.errno or 0, "Choose another address or port.")
        raise Fail(f"cannot listen on {where}: {error.strerror}", remedy, CANNOT_LISTEN) from None
    listener.setblocking(False)
    if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        logger.warning("%s can be reached from other machines, and there is no authentication yet", where)
    return listener


def shown_address(listener: socket.socket) -> str:
    """Return host:port as a client would write it."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def fit_descriptors(config: Config) -> Config:
    """Raise the limit of open files to fit max_connections, or lower max_connections to it, with a warning."""
    wanted = config.max_connections + RESERVED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return config
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(granted, soft), hard))
    if granted >= wanted:
        return config
    fitting = max(1, granted - RESERVED_DESCRIPTORS)
    logger.warning(
        "--max-connections lowered from %d to %d: the limit of open files is %d",
        config.max_connections,
        fitting,
        granted,
    )
    return replace(config, max_connections=fitting)


def trace_request(request: Request, reply: bytes) -> None:
    """Log one request and the code of its reply: verb and key, never a value, nothing of a line that was refused."""
    verb, key, _ = request
    code = reply[:3].decode()
    if isinstance(verb, Verb):
        logger.debug("%s%s -> %s", verb.name, f" {shorten(key)}" if verb < STATS else "", code)
    else:
        logger.debug("%s -> %s", "refused" if reply == REPLY[Status(verb)] else "lab command", reply.decode())
