"""Opens the store that a URL names. Which schemes there are stands here; the stores are in modules of their own."""

from collections.abc import Mapping
from importlib import import_module

from kvss_gevent.config import Config
from kvss_gevent.stores.base import CannotOpen, Store

OPENERS: Mapping[str, str] = {
    "memory": "kvss_gevent.stores.memory:open_url",
    "disk": "kvss_gevent.stores.disk:open_url",
}
"""From scheme to `module:function`; the module is imported when its scheme is used. The function gets what follows the
colon of the URL and the Config, returns a Store, and raises CannotOpen."""

FORMS = "memory: or disk:PATH"


def open_store(config: Config) -> Store:
    """Open the store of config.store. Raises CannotOpen with the cause and what to do."""
    scheme, colon, rest = config.store.partition(":")
    if not colon or scheme not in OPENERS:
        raise CannotOpen(f"there is no store {config.store!r}", f"Give {FORMS}.", usage=True)
    module, function = OPENERS[scheme].split(":")
    store: Store = getattr(import_module(module), function)(rest, config)
    return store
