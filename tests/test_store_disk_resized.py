"""One data file and two servers, of which the other lets it grow past the map of ours."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from store_calls import apply

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.file import map_lock
from kvss_gevent.stores.disk.file.map_lock import MapLock

OURS_BYTES = 2 << 20
FILL = """
import sys
from pathlib import Path
from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.disk.disk_store import DiskStore
store = DiskStore(Path(sys.argv[1]), "none", 64 << 20)
for number in range(8):
    store.apply([(Verb.PUT, b"%d" % number, b"x" * 500_000 + b"\\n")], 1 << 20)
store.close()
"""


@pytest.mark.parametrize("sync", ["always", "interval"])
def test_readers_go_on_while_another_server_lets_the_file_grow(tmp_path: Path, sync: str) -> None:
    path = tmp_path / "data.kv"
    store = DiskStore(path, sync, OURS_BYTES)
    apply(store, [(Verb.PUT, b"key", b"value")], 1 << 20)
    filled = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not filled.is_set():
            seen = apply(store, [(Verb.GET, b"key", b"")], 1 << 20)
            if seen != [b"value"]:
                wrong.append(seen)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    subprocess.run([sys.executable, "-c", FILL, str(path)], check=True, timeout=50)
    filled.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert path.stat().st_size > OURS_BYTES
    assert store.count() == 9
    assert apply(store, [(Verb.GET, b"7", b"")], 1 << 20) == [b"x" * 500_000]
    assert isinstance(apply(store, [(Verb.PUT, b"late", b"value")], 1 << 20)[0], StoreError)  # our bound is ours
    assert apply(store, [(Verb.DEL, b"7", b"")], 1 << 20) == [True]
    store.close()


def test_a_transaction_that_does_not_end_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_lock, "WAIT_S", 0.01)
    lock = MapLock()
    with lock.reading, pytest.raises(TimeoutError), lock.alone():
        pass
    with lock.alone():
        assert lock.writing.locked()
    assert not lock.writing.locked()
