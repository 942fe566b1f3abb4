"""Chooses how the writes of many greenlets become transactions of a disk store."""

from typing import TYPE_CHECKING, cast

from kvss_gevent.stores.base import Store
from kvss_gevent.stores.disk.group_commit import GroupCommit, TransactionStore

if TYPE_CHECKING:
    from kvss_gevent.stores.disk.disk_store import DiskStore


def gathering(store: Store, *, synced: bool) -> Store:
    """Return a store that gathers writes into transactions; one without transactions is returned as it is.

    synced: whether a commit waits for the disk, so that it needs a thread.
    """
    if not isinstance(store, TransactionStore):
        return store
    if synced:
        return GroupCommit(store)
    from kvss_gevent.stores.disk.turn_commit import TurnCommit  # here, because it needs LMDB, which is optional

    return TurnCommit(cast("DiskStore", store))
