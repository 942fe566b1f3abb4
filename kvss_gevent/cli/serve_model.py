"""`kvss serve --model NAME` for every model but the product: what each is given, signals, and what it cannot honour."""

import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from dataclasses import fields
from types import FrameType
from typing import TYPE_CHECKING, Any

from kvss_gevent import models
from kvss_gevent.cli.options import variable
from kvss_gevent.cli.serve import announce, listen, usable_store
from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Service
from kvss_gevent.models.contract import Ground
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.stores.open import is_shared

if TYPE_CHECKING:
    from kvss_gevent.stores.base import Store

logger = logging.getLogger("kvss")

NO_LIBRARY = 3


def serve_model(config: Config, trace: Any) -> int:
    """Serve with the model that the configuration names until a signal ends it; returns the exit code. Raises Fail."""
    try:
        model = models.load(config.model)
    except models.Absent as absent:
        raise Fail(absent.cause, absent.remedy, NO_LIBRARY) from None
    if model.SHARED and not is_shared(config.store):
        raise Fail(
            f"--model {config.model} runs in several processes, and {config.store} lives in one: "
            "each client would find a store of its own",
            "Give a store that processes can share, such as --store disk:kvss.data, or another model, such as threads.",
        )
    warn_of_options_not_honoured(config)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # no limit of ours keeps clients out: the system's does
    limits = Limits(line_bytes=config.max_line_bytes, reply_bytes=config.max_unsent_bytes)
    stores: list[Store] = [usable_store(config)]
    listener = listen(config.host, config.port)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if model.SHARED:
        stores.pop().close()  # it can be opened, and that is all this process needs of it

    lab = Lab() if config.lab else None

    def open_service() -> Service:
        if model.SHARED:
            try:
                stores.append(usable_store(config))
            except Fail as fail:
                logger.error("a process cannot serve: %s", fail.cause)
                raise SystemExit(fail.code) from None
        return Service(stores[0], limits, stats_format=config.stats_format, trace=trace, lab=lab)

    stop_on_signals()
    announce(listener)
    gc.collect()
    gc.freeze()
    with contextlib.suppress(SystemExit):
        model.serve(Ground(listener, open_service, config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    for store in stores:
        store.close()
    return Exit.OK


def stop_on_signals() -> None:
    """Have SIGTERM and SIGINT end the main thread with SystemExit, and the process at once where one comes again."""
    stopping = False

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        raise SystemExit(Exit.OK)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def warn_of_options_not_honoured(config: Config) -> None:
    """Say which of the options that were given have no effect: a limit that is silently none is a trap."""
    for field in fields(Config):
        if field.name in models.HONOURED_BY_PRODUCT_ALONE and getattr(config, field.name) != field.default:
            flag = field.metadata["flag"]
            logger.warning("%s (%s) has no effect with --model %s", flag, variable(field.name), config.model)
