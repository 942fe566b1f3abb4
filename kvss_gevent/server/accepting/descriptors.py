"""The limit of open files: raises it to what the clients need, or lowers the number of clients to it."""

import contextlib
import logging
import os
from dataclasses import replace
from typing import Final

from kvss_gevent.settings.config import Config
from kvss_gevent.settings.kinds import MAX_COUNT

with contextlib.suppress(ImportError):  # Windows has neither the module nor a limit
    import resource

logger = logging.getLogger("kvss")

RESERVED: Final = 64
"""Descriptors for the interpreter, the event loop, the listener, logs and stores."""
FEW_CLIENTS: Final = 500
"""Below this the log says how many fit, though no number is asked for. A limit of 1024 open files is usual."""


def raise_limit(wanted: int | None = None) -> int | None:
    """Raise the soft limit to `wanted`, or as far as possible; return the limit, None for no limit."""
    if "resource" not in globals():
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    if wanted is None or hard != resource.RLIM_INFINITY:
        wanted = hard if wanted is None else min(wanted, hard)
    if wanted != resource.RLIM_INFINITY and wanted <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft  # macOS allows fewer than it reports
    return None if wanted == resource.RLIM_INFINITY else wanted


def fit(config: Config, *, tell: bool = True) -> Config:
    """Raise the limit for config.max_connections, or lower that to fit; 0 becomes all that fit. tell: log a warning."""
    used = max(RESERVED, open_now() + RESERVED // 2)
    wanted = config.max_connections
    limit = raise_limit(wanted + used if wanted else None)
    if limit is None or limit >= wanted + used > used:
        return config if wanted else replace(config, max_connections=MAX_COUNT)
    fitting = max(1, limit - used)
    if tell and wanted:
        logger.warning("--max-connections lowered from %d to %d: the limit of open files is %d", wanted, fitting, limit)
    elif tell and fitting < FEW_CLIENTS:
        logger.warning("no more than %d clients fit: the limit of open files is %d", fitting, limit)
    return replace(config, max_connections=fitting)


def open_now() -> int:
    """Return how many descriptors this process has open. Inherited ones leave less room for clients."""
    for path in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(path))  # noqa: PTH208 - a count, no paths
    return 0
