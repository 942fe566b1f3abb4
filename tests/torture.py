"""Kills servers under load and looks whether the disk store kept its promise; `python tests/torture.py` does it long.

After each SIGKILL the file is checked page by page, opened, and compared with what 16 writers were told: every
acknowledged write must be there, what was not acknowledged may be, and nothing else. With --cuts the power fails, too:
powercut.py rebuilds the file from what had been synced and a random part of what had not.
"""

import argparse
import random
import socket
import sys
import tempfile
import threading
import time
import zlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import powercut
from lmdb.verify import verify
from serving import read_lines, serving, wait_until

from kvss_gevent.protocol.wire import OK_PREFIX, Status, Verb, build_request, parse_reply
from kvss_gevent.stores.base import CannotOpen
from kvss_gevent.stores.disk.disk_store import DiskStore

KEYS_OF_A_WRITER = 40
LARGE_BYTES = 20_000
MAX_FILE_BYTES = 32 << 20
"""A store that has grown past this is begun anew, so that a page-by-page check stays short."""

Value = bytes | None


@dataclass
class Counts:
    """What a run has seen."""

    deaths: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0
    took_effect: int = 0
    lost: int = 0
    bytes_grown: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.deaths} deaths: {self.acknowledged} writes acknowledged, {self.unacknowledged} in flight of which "
            f"{self.took_effect} took effect, {self.lost} lost; files grew by {self.bytes_grown >> 20} MiB; "
            f"{len(self.problems)} problems"
        )


class Writers:
    """Clients that write until their server dies, and what they know: acknowledged values, and those in flight.

    growing: values are large and keys always new, so that nearly every commit makes the file longer.
    """

    def __init__(self, number: int, chance: random.Random, counts: Counts) -> None:
        self._number = number
        self._chance = chance
        self._counts = counts
        self._serial = 0
        self._lock = threading.Lock()
        self.growing = False
        self.known: dict[bytes, bytes] = {}
        self.in_flight: dict[bytes, Value] = {}
        self.past: dict[bytes, list[tuple[float, Value]]] = {}

    def run(self, port: int) -> list[threading.Thread]:
        """Start them; they end when the server does."""
        threads = [threading.Thread(target=self._write, args=(port, number)) for number in range(self._number)]
        for thread in threads:
            thread.start()
        return threads

    def _write(self, port: int, number: int) -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as sock:
                while self._ask(sock, number):
                    pass
        except (OSError, AssertionError):
            return  # the server is dead

    def _ask(self, sock: socket.socket, number: int) -> bool:
        with self._lock:
            self._serial += 1
            key = b"%d-%d" % (number, self._serial if self.growing else self._chance.randrange(KEYS_OF_A_WRITER))
            value = None if self._chance.random() < 0.1 else self._value(key)
            before = self.known.get(key)
            self.in_flight[key] = value
            self.past.setdefault(key, [(0.0, before)])
        verb = Verb.DEL if value is None else Verb.PUT
        sock.sendall(build_request(verb, key, value or b""))
        (line,) = read_lines(sock, 1)
        status, _ = parse_reply(line)
        there, absent = (Status.NO_CONTENT, Status.NOT_FOUND) if value is None else (Status.OK, Status.CREATED)
        with self._lock:
            if status is not (absent if before is None else there):
                self._counts.problems.append(f"{verb.name} {key!r} got {status.name}")
                return False
            self._counts.acknowledged += 1
            del self.in_flight[key]
            self.past[key].append((time.monotonic(), value))
            if value is None:
                self.known.pop(key, None)
            else:
                self.known[key] = value
        return True

    def _value(self, key: bytes) -> bytes:
        body = b"%s %d " % (key, self._serial)
        body += b"x" * (LARGE_BYTES if self.growing else self._chance.randrange(300))
        return b"%s %08x" % (body, zlib.crc32(body))

    def look(self, found: dict[bytes, bytes], lossy_since_s: float) -> None:
        """Compare with what the store holds, count, and go on from there.

        Of what was acknowledged after lossy_since_s any may be missing, but what was there before must be.
        """
        counts = self._counts
        for key in {*self.known, *self.in_flight, *found}:
            known, seen = self.known.get(key), found.get(key)
            if key in self.in_flight:
                counts.unacknowledged += 1
                counts.took_effect += seen == self.in_flight[key] != known
                if seen not in (known, self.in_flight[key], *self._recent(key, lossy_since_s)):
                    counts.problems.append(f"{key!r} has neither the old value nor the new one")
            elif seen != known and seen in self._recent(key, lossy_since_s):
                counts.lost += 1
            elif seen != known:
                counts.problems.append(f"{key!r}: acknowledged {_brief(known)}, found {_brief(seen)}")
        self.known = dict(found)
        self.in_flight.clear()
        self.past.clear()

    def _recent(self, key: bytes, since_s: float) -> list[Value]:
        """Return the values that a key has had since a moment, with the one it had then."""
        past = self.past.get(key, [])
        first = max((number for number, (when_s, _) in enumerate(past) if when_s <= since_s), default=0)
        return [value for _, value in past[first:]] if past and past[-1][0] > since_s else []


def _brief(value: Value) -> str:
    return "nothing" if value is None else repr(value[:30])


def contents(path: Path) -> dict[bytes, bytes]:
    """Open a store and return all that a client could read in it."""
    store = DiskStore(path)
    try:
        with store.environment.handle.begin() as txn:
            keys = [key for key in txn.cursor().iternext(values=False) if b" " not in key]
        values = store.read([(Verb.GET, key, b"") for key in keys], 1 << 40)
        return {
            key: value[len(OK_PREFIX) : -1] if value.startswith(OK_PREFIX) else b"unreadable"
            for key, value in zip(keys, values, strict=True)
        }
    finally:
        store.close()


def torture(  # noqa: PLR0913 - the options of the command line and of the tests
    directory: Path,
    *,
    deaths: int,
    writers: int = 16,
    cut_power: bool = False,
    seed: int = 0,
    flags: tuple[str, ...] = (),
    lives_s: tuple[float, float] = (0.02, 0.3),
    may_lose_s: float = 0.0,
    least_acknowledged: int = 0,
) -> Counts:
    """Start, load, kill and check a server `deaths` times; every other time while the file grows with each commit.

    The server lives for a time between lives_s, and until least_acknowledged writes are acknowledged; of its last
    may_lose_s seconds acknowledged writes may be lost.
    """
    chance = random.Random(seed)
    counts = Counts()
    path = directory / "data.kv"
    clients = Writers(writers, chance, counts)
    layer = powercut.Layer(directory, path) if cut_power else None
    for number in range(deaths):
        clients.growing = number % 2 == 1
        with ExitStack() as stack:
            env = layer.begin() if layer else {}
            served = stack.enter_context(serving("--store", f"disk:{path}", *flags, env=env))
            before_bytes = path.stat().st_size
            enough = counts.acknowledged + least_acknowledged
            threads = clients.run(served.port)
            time.sleep(chance.uniform(*lives_s))
            wait_until(lambda: counts.acknowledged >= enough or counts.problems)  # noqa: B023 - called at once
            killed_s = time.monotonic()
            served.process.kill()
            served.process.wait(10)
            for thread in threads:
                thread.join(20)
        counts.deaths += 1
        counts.bytes_grown += path.stat().st_size - before_bytes
        try:
            found = contents(path) if layer is None else layer.cut(chance, contents)
        except CannotOpen as error:
            counts.problems.append(error.cause)
            break
        counts.problems += verify(str(path), subdir=False)
        clients.look(found, killed_s - may_lose_s if may_lose_s else time.monotonic())
        if path.stat().st_size > MAX_FILE_BYTES:
            path.unlink()
            clients.known.clear()
    return counts


def main() -> int:
    """Run the torture as the command line says and print its counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs of the server (200)")
    parser.add_argument("--cuts", type=int, default=50, help="power cuts (50)")
    parser.add_argument("--writers", type=int, default=16, help="clients that write (16)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is random")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    failed = False
    for what, deaths, cut_power in (("SIGKILL", args.kills, False), ("power cut", args.cuts, True)):
        with tempfile.TemporaryDirectory(prefix="kvss-torture-") as directory:
            counts = torture(Path(directory), deaths=deaths, writers=args.writers, cut_power=cut_power, seed=args.seed)
        print(f"{what}: {counts}", flush=True)
        for problem in counts.problems[:20]:
            print(f"  {problem}")
        failed |= bool(counts.problems) or counts.acknowledged == 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
