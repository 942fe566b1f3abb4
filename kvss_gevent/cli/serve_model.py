"""`kvss serve --model NAME`: runs any model but the default one, and warns of options that it does not support."""

import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import ModuleType

from kvss_gevent import models
from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Converse, RequestCounts, Service
from kvss_gevent.models.contract import Ground
from kvss_gevent.server.accepting.descriptors import raise_limit
from kvss_gevent.server.accepting.listener import listening
from kvss_gevent.settings.config import Config, flag, options, variable
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.log import LAST, NOTICE
from kvss_gevent.settings.signals import Act, handle, numbers, shown
from kvss_gevent.stores.base import Store
from kvss_gevent.stores.open import is_shared, open_store

logger = logging.getLogger("kvss")

STOP_WITHIN_S = 0.5
"""The longest time that a signal waits for the main thread's system call."""


def checked_model(config: Config) -> ModuleType:
    """Return the module of the configuration's model. Raises Fail if the model cannot serve this configuration."""
    model = models.load(config.model)
    if model.SHARED and not is_shared(config.store):
        raise Fail(
            f"--model {config.model} runs in several processes, and {config.store} lives in one: "
            "each client would find a store of its own",
            "Give a store that processes can share, such as --store disk:kvss.data, or another model, such as threads.",
        )
    if config.users or config.tls_cert:
        raise Fail(
            f"--model {config.model} supports no users and no TLS",
            "Remove --users and --tls-cert, or remove --model: the default model has both.",
        )
    return model


def serve_model(config: Config, converse: Converse, announce: Callable[[socket.socket], None]) -> int:
    """Serve with the model that the configuration names until a signal ends it; returns the exit code. Raises Fail."""
    model = checked_model(config)
    warn_of_options_not_honoured(config)
    raise_limit()  # these models refuse no clients; only the system's limit does
    limits = Limits(line_bytes=config.max_line_bytes, reply_bytes=config.max_unsent_bytes)
    stores: list[Store] = [open_store(config)]
    lab = Lab() if config.lab else None
    started_s = time.monotonic()

    def open_service() -> Service:
        if model.SHARED:
            try:
                stores.append(open_store(config))
            except Fail as fail:
                logger.error("a process cannot serve: %s", fail.cause)
                raise SystemExit(fail.code) from None
        return Service(
            stores[0],
            limits,
            strict=config.strict,
            stats_format=config.stats_format,
            stats=RequestCounts(started_s),  # when the server started; a process may start with its client
            converse=converse,
            lab=lab,
        )

    with listening(config) as listener:
        if model.SHARED:
            stores.pop().close()  # each process opens it again; here it was only tested that it can be opened
        stops = stop_on_signals()
        announce(listener)
        gc.collect()
        gc.freeze()
        with contextlib.suppress(SystemExit), interrupted_calls():
            model.serve(Ground(listener, open_service, config))
        for number in numbers(Act.DRAIN):
            signal.signal(number, signal.SIG_IGN)
    for store in stores:
        store.close()
    by = " ".join(map(shown, stops)) or "a signal"
    logger.log(NOTICE, "stopped by %s; clients were disconnected", by, extra=LAST)
    return Exit.OK


def stop_on_signals() -> list[int]:
    """Make the first SIGTERM or SIGINT raise SystemExit in the main thread, and a second one end the process at once.

    Returns a list to which the first signal is added. It stays empty with a model whose event loop handles signals.
    """
    stops: list[int] = []

    def stop(number: int) -> None:
        if stops:
            os._exit(128 + number)
        stops.append(number)
        raise SystemExit(Exit.OK)

    def ignore(number: int) -> None:
        logger.log(NOTICE, "%s has no effect with this model", shown(number))

    handle(
        {Act.DRAIN: stop, Act.IGNORE: ignore},
        lambda number, handler: signal.signal(number, lambda number, _: handler(number)),
    )
    return stops


@contextlib.contextmanager
def interrupted_calls() -> Iterator[None]:
    """End the main thread's system call every STOP_WITHIN_S, so that no stop signal waits longer than that.

    Python runs a signal's handler in the main thread, when its system call ends. A signal that comes just before the
    call, or to another thread, does not end the call, and accepting may last for ever.
    The timer's SIGALRM does nothing, so one from outside is not logged with these models.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, STOP_WITHIN_S, STOP_WITHIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def warn_of_options_not_honoured(config: Config) -> None:
    """Warn of given options that have no effect: users would rely on a limit that does not exist."""
    for option in options():
        if option.name in models.HONOURED_BY_PRODUCT_ALONE and getattr(config, option.name) != option.default:
            name = option.name
            logger.warning("%s (%s) has no effect with --model %s", flag(name), variable(name), config.model)
