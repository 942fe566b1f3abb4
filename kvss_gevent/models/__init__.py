"""The concurrency models of `kvss serve --model`: which there are, and how one is loaded. Each has a file here.

A model is a module with

    IDEA    one line: how clients are served
    LIMITS  tuple of lines: what it cannot do by nature, and what it does not take care of
    LOSES   tuple of ids: the cases of `kvss conform` that it fails by nature
    SHARED  whether it runs in several processes, so that the store must be one that processes can share
    serve(ground)  serves on ground.listener until SIGTERM or SIGINT; see contract.py

To add one, write its file and give it a line in MODULES: `kvss serve`, `kvss models` and the tests find it there.

May import: protocol, settings, stores, core.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Final

from kvss_gevent.settings.fail import Exit, Fail, install

DEFAULT: Final = "gevent"

MODULES: Final[Mapping[str, str]] = {
    "sequential": "sequential",
    "threads": "threads",
    "pool": "pool",
    "fork": "fork",
    "prefork": "prefork",
    "select": "select_loop",
    "asyncio": "asyncio_streams",
    "protocol": "asyncio_protocol",
    "uvloop": "uvloop_protocol",
    "twisted": "twisted_reactor",
    "trio": "trio_tasks",
    "gevent-plain": "gevent_plain",
    "gevent": "product",
}
"""From a model's name to its file here. No file has the name of a library, because then the wrong one is easily
imported."""

NEEDS: Final[Mapping[str, str]] = dict.fromkeys(("uvloop", "twisted", "trio"), "lab")
"""The extra of this package that installs what a model needs."""

HONOURED_BY_PRODUCT_ALONE: Final = (
    "max_connections",
    "max_per_address",
    "max_client_memory_bytes",
    "line_timeout_s",
    "idle_timeout_s",
    "hibernate_s",
    "write_timeout_s",
    "drain_timeout_s",
    "workers",
    "metrics",
    "flight_recorder_s",
    "slow_ms",
    "watch_blocking",
)
"""Fields of Config that the textbook models ignore, so that they stay short."""


class Absent(Fail):
    """A model cannot run here."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What `kvss models` shows of one model; idea, limits and loses are empty where why_not says that it is absent."""

    name: str
    file: str
    idea: str = ""
    limits: tuple[str, ...] = ()
    loses: tuple[str, ...] = ()
    why_not: str = ""


def load(name: str) -> ModuleType:
    """Import a model's module. Raises Absent where its library is not installed."""
    try:
        return import_module(f"{__name__}.{MODULES[name]}")
    except ImportError as error:
        if (error.name or "").startswith("kvss_gevent"):
            raise
        extra = NEEDS.get(name)
        raise Absent(
            f"the model {name} needs the package {error.name}, which is not installed",
            install(extra) if extra else f"pip install {error.name}",
            Exit.UNREACHABLE,
        ) from None


def describe(name: str) -> ModelCard:
    """Return the row of one model, whether or not it can run here."""
    file = f"kvss_gevent/models/{MODULES[name]}.py"
    try:
        module = load(name)
    except Absent as absent:
        return ModelCard(name, file, why_not=f"{absent.cause}: {absent.remedy}")
    return ModelCard(name, getattr(module, "FILE", file), module.IDEA, tuple(module.LIMITS), tuple(module.LOSES))
