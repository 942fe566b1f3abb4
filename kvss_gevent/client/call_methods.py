"""The commands as methods, once for calls that return a result, for calls to await, and for pipelines."""

from collections.abc import Awaitable
from typing import Any, Protocol, Self

from kvss_gevent.client.commands import Command, Commands, T, Text
from kvss_gevent.protocol.stats_reply import Stats


class Calls(Protocol[Text]):
    """Calls that return their result.

    All raise KVError; protocol/errors.py has its kinds. They raise ValueError or TypeError, and send nothing, for what
    KV/1.0 cannot carry. A key has 1 to 511 bytes and no space. A value has at least one byte. Both are UTF-8 without a
    line feed.
    """

    _commands: Commands[Text]

    def _run(self, command: Command[T]) -> T: ...

    def get(self, key: Text) -> Text | None:
        """Return the value, or None if there is no such key."""
        return self._run(self._commands.get(key))

    def put(self, key: Text, value: Text, *, ttl_s: int | None = None) -> bool:
        """Store a value, for ttl_s seconds or for good; return True if the key is new, False if it was there."""
        return self._run(self._commands.put(key, value, ttl_s))

    def delete(self, key: Text) -> bool:
        """Forget a key; return True where it was there."""
        return self._run(self._commands.delete(key))

    def expire(self, key: Text, ttl_s: int) -> bool:
        """Let a key expire in ttl_s seconds; return True where it was there."""
        return self._run(self._commands.expire(key, ttl_s))

    def ttl(self, key: Text) -> int | None:
        """Return the whole seconds until a key expires, -1 if it does not, None if there is no such key."""
        return self._run(self._commands.ttl(key))

    def persist(self, key: Text) -> bool:
        """Keep a key for good; return True where it was there."""
        return self._run(self._commands.persist(key))

    def stats(self) -> Stats:
        """Return the server's counters."""
        return self._run(self._commands.stats())


class AsyncCalls(Protocol[Text]):
    """Calls to await. They raise what Calls raise, when they are awaited."""

    _commands: Commands[Text]

    def _run(self, command: Command[T]) -> Awaitable[T]: ...

    async def get(self, key: Text) -> Text | None:
        """Return the value, or None if there is no such key."""
        return await self._run(self._commands.get(key))

    async def put(self, key: Text, value: Text, *, ttl_s: int | None = None) -> bool:
        """Store a value, for ttl_s seconds or for good; return True if the key is new, False if it was there."""
        return await self._run(self._commands.put(key, value, ttl_s))

    async def delete(self, key: Text) -> bool:
        """Forget a key; return True where it was there."""
        return await self._run(self._commands.delete(key))

    async def expire(self, key: Text, ttl_s: int) -> bool:
        """Let a key expire in ttl_s seconds; return True where it was there."""
        return await self._run(self._commands.expire(key, ttl_s))

    async def ttl(self, key: Text) -> int | None:
        """Return the whole seconds until a key expires, -1 if it does not, None if there is no such key."""
        return await self._run(self._commands.ttl(key))

    async def persist(self, key: Text) -> bool:
        """Keep a key for good; return True where it was there."""
        return await self._run(self._commands.persist(key))

    async def stats(self) -> Stats:
        """Return the server's counters."""
        return await self._run(self._commands.stats())


class QueuedCalls(Protocol[Text]):
    """Requests that wait to be sent together.

    Each method returns the pipeline, so calls can be chained. A request is checked when it is queued; for what is
    raised see Calls.
    """

    _commands: Commands[Text]
    _queued: list[Command[Any]]

    def get(self, key: Text) -> Self:
        """Queue a GET; its result is the value or None."""
        return self._queue(self._commands.get(key))

    def put(self, key: Text, value: Text, *, ttl_s: int | None = None) -> Self:
        """Queue a PUT; its result is True if the key is new."""
        return self._queue(self._commands.put(key, value, ttl_s))

    def delete(self, key: Text) -> Self:
        """Queue a DEL; its result is True if the key was there."""
        return self._queue(self._commands.delete(key))

    def expire(self, key: Text, ttl_s: int) -> Self:
        """Queue an EXPIRE; its result is True if the key was there."""
        return self._queue(self._commands.expire(key, ttl_s))

    def ttl(self, key: Text) -> Self:
        """Queue a TTL; its result is the seconds left, -1 or None."""
        return self._queue(self._commands.ttl(key))

    def persist(self, key: Text) -> Self:
        """Queue a PERSIST; its result is True if the key was there."""
        return self._queue(self._commands.persist(key))

    def stats(self) -> Self:
        """Queue a STATS; its result is a Stats."""
        return self._queue(self._commands.stats())

    def __len__(self) -> int:
        return len(self._queued)

    def _queue(self, command: Command[Any]) -> Self:
        self._queued.append(command)
        return self

    def _take(self) -> list[Command[Any]]:
        """Return all queued commands, and empty the queue."""
        queued, self._queued = self._queued, []
        return queued
