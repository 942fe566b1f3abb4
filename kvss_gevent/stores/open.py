"""Opens the store that a URL names. The list of schemes is here; the stores are in modules of their own."""

from collections.abc import Callable, Mapping
from importlib import import_module

from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import install
from kvss_gevent.settings.kinds import STORE_FORMS
from kvss_gevent.stores.base import CannotOpen, Store

OPENERS: Mapping[str, str] = {
    "memory": "kvss_gevent.stores.memory:open_url",
    "disk": "kvss_gevent.stores.disk.disk_store:open_url",
    "redis": "kvss_gevent.stores.remote.url:open_redis",
    "rediss": "kvss_gevent.stores.remote.url:open_redis",
    "cluster": "kvss_gevent.stores.remote.url:open_cluster",
    "clusters": "kvss_gevent.stores.remote.url:open_cluster",
}
"""From scheme to `module:function`, which takes the rest of the URL and the Config, and returns a Store."""

EXTRAS: Mapping[str, str] = {"disk": "disk", **dict.fromkeys(("redis", "rediss", "cluster", "clusters"), "cluster")}
"""The extra of this package that a scheme needs."""


def open_store(config: Config) -> Store:
    """Open the store of config.store. Raises CannotOpen with the cause and what to do."""
    return opener(config.store)(config.store.partition(":")[2], config)


def opener(url: str) -> Callable[[str, Config], Store]:
    """Return what opens the store of a URL. Raises CannotOpen, also where a package for it is not installed."""
    refuse_password(url)
    try:
        url.encode()
    except UnicodeEncodeError:
        raise CannotOpen(f"the store {url!r} is not text in UTF-8", "Give it another name.", usage=True) from None
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in OPENERS:
        raise CannotOpen(f"there is no store {url!r}", f"Give {STORE_FORMS}.", usage=True)
    module, function = OPENERS[scheme].split(":")
    try:
        found: Callable[[str, Config], Store] = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("kvss_gevent"):
            raise
        raise CannotOpen(
            f"{scheme}: needs the package {error.name}, which is not installed",
            install(EXTRAS[scheme]),
        ) from None
    return found


def refuse_password(url: str) -> None:
    """Refuse a URL with a password in it, without showing it. Raises CannotOpen."""
    scheme, _, rest = url.partition(":")
    user, at, _ = rest.rpartition("@")
    if scheme not in ("memory", "disk") and at and ":" in user:
        raise CannotOpen(
            f"the address of the store, {scheme}:..., has a password in it, which others could see",
            "Give redis://USER@HOST:PORT/DB, and the password in --store-password-file FILE or $KVSS_STORE_PASSWORD.",
            usage=True,
        )


def is_shared(url: str) -> bool:
    """Whether several processes can open the store of this URL and see each other's writes."""
    return url.partition(":")[0] != "memory"
