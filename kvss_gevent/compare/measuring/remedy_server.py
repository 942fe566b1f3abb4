"""Two textbook event loops with a remedy: BURN and SLEEP run in place, on another thread, or in another process.

Run as `python -m kvss_gevent.compare.measuring.remedy_server asyncio|gevent place|thread|process`, it listens on a free
port of loopback and prints it. Other requests are answered in place.
"""

import asyncio
import multiprocessing
import signal
import socket
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import gevent
from gevent.server import StreamServer
from gevent.threadpool import ThreadPool

from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Service
from kvss_gevent.stores.memory import MemoryStore

HELPERS = 4
"""The number of threads or processes besides the loop."""

LAB = Lab()
WORK = (b"KV/1.0 BURN ", b"KV/1.0 SLEEP ")


def work(line: bytes) -> bytes:
    """Run one BURN or SLEEP."""
    return LAB.run(line) or b"400 BAD_REQUEST\n"


def executor_for(remedy: str) -> Executor | None:
    """Return the executor that runs the work, None for the loop itself. Processes are forked before there is a loop."""
    if remedy == "place":
        return None
    if remedy == "thread":
        return ThreadPoolExecutor(HELPERS)
    executor = ProcessPoolExecutor(HELPERS, multiprocessing.get_context("fork"))
    executor.submit(work, b"KV/1.0 BURN 0\n").result()
    return executor


def serve_asyncio(listener: socket.socket, executor: Executor | None) -> None:
    """Serve with a coroutine for each connection."""

    async def main() -> None:
        service = Service(MemoryStore())
        loop = asyncio.get_running_loop()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            session = service.open()
            while line := await reader.readline():
                if not line.startswith(WORK):
                    writer.write(session.receive(line))
                elif executor is None:
                    writer.write(work(line))
                else:
                    writer.write(await loop.run_in_executor(executor, work, line))
                await writer.drain()

        await asyncio.start_server(talk, sock=listener, backlog=4096)
        await asyncio.Event().wait()

    asyncio.run(main())


def serve_gevent(listener: socket.socket, executor: Executor | None) -> None:
    """Serve with a greenlet for each connection; a thread of gevent's pool waits for the process."""
    service = Service(MemoryStore())
    pool = ThreadPool(HELPERS)
    in_process = isinstance(executor, ProcessPoolExecutor)

    def away(line: bytes) -> bytes:
        assert executor is not None
        return executor.submit(work, line).result() if in_process else work(line)

    def talk(sock: Any, _: Any) -> None:
        session = service.open()
        with sock, sock.makefile("rb") as lines:
            for line in lines:
                if not line.startswith(WORK):
                    sock.sendall(session.receive(line))
                elif executor is None:
                    sock.sendall(work(line))
                else:
                    sock.sendall(pool.apply(away, (line,)))

    gevent.get_hub()
    StreamServer(listener, talk).serve_forever()


def main() -> None:
    """Serve until SIGTERM, which ends the process at once."""
    framework, remedy = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    executor = executor_for(remedy)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"remedy: listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    {"asyncio": serve_asyncio, "gevent": serve_gevent}[framework](listener, executor)


if __name__ == "__main__":
    main()
