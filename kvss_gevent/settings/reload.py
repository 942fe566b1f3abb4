"""SIGHUP: reads the settings again and changes what can change in a running server."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvss_gevent.settings.config import Config, flag, options
from kvss_gevent.settings.fail import Fail, escaped
from kvss_gevent.settings.log import NOTICE, set_up

logger = logging.getLogger("kvss")


def reloaded(current: Config, read: Callable[[], Config], *, tell: bool = True) -> Config:
    """Return the configuration after a SIGHUP, and log what changes and what cannot; a wrong file changes nothing."""
    try:
        new = read()
    except Fail as fail:
        if tell:
            logger.error("%s; the settings stay as they are. %s", fail.cause, fail.remedy)
        return current
    changes: dict[str, Any] = {}
    for option in options():
        name, show = option.name, option.metadata["kind"].show
        old, wanted = getattr(current, name), getattr(new, name)
        if old == wanted:
            continue
        if option.metadata["reload"]:
            changes[name] = wanted
            if tell:
                logger.log(NOTICE, "%s changes from %s to %s", flag(name), show(old), escaped(show(wanted)))
        elif tell:
            logger.warning("%s stays %s: it changes only with a restart", flag(name), show(old))
    if not changes and tell:
        logger.log(NOTICE, "read the settings again: nothing changes")
    config = replace(current, **changes)
    set_up(config.log_level, config.log_format)
    return config
