"""Stores on Valkey or Redis that cannot be opened: what is no address, what has a password in it, who is not there."""

import pytest

from kvss_gevent.measure.launch import free_port
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Exit
from kvss_gevent.stores.base import CannotOpen
from kvss_gevent.stores.open import open_store

MISTAKES = [
    *["redis:", "redis:127.0.0.1:1", "redis://127.0.0.1", "redis://h:1/x", "redis://h:1,h:2/0", "redis://h:99999/0"],
    *["cluster:", "cluster://", "cluster://h", "cluster://h:1,", "cluster://h:0"],
]


@pytest.mark.parametrize("url", MISTAKES)
def test_an_address_that_is_none_is_a_mistake_of_use(url: str) -> None:
    with pytest.raises(CannotOpen) as refused:
        open_store(Config(store=url))
    assert refused.value.code == Exit.USAGE


@pytest.mark.parametrize("url", ["redis://user:secret@127.0.0.1:1/0", "cluster://:secret@127.0.0.1:1"])
def test_a_password_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(CannotOpen, match="has a password in it") as refused:
        open_store(Config(store=url))
    assert refused.value.code == Exit.USAGE
    assert "secret" not in refused.value.cause + refused.value.remedy


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}/0", "cluster://127.0.0.1:{port}"])
def test_a_store_that_nobody_serves_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(CannotOpen, match="refused") as refused:
        open_store(Config(store=url.format(port=free_port())))
    assert refused.value.code == Exit.UNREACHABLE
