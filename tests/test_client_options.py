"""What the clients can be told: types, ranges, URLs, login and TLS; and what a type checker sees."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Peer, answering, fake_server, honest

from kvss_gevent import (
    AsyncKVClient,
    AsyncKVPool,
    KVClient,
    KVConnectError,
    KVPool,
    Retry,
)
from kvss_gevent.client.client_options import ClientConfig

ROOT = Path(__file__).parent.parent
FACES: tuple[Any, ...] = (KVClient, KVPool, AsyncKVClient, AsyncKVPool)


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (("127.0.0.1", "5050"), {}, "port is a number, such as 5050, not the text '5050'"),
        ((5050,), {}, 'host is text, such as "127.0.0.1", not 5050'),
        (("127.0.0.1", None), {}, "port is a number, such as 5050, not None"),
        (("127.0.0.1:5050",), {}, "host must be only a name or an address, not '127.0.0.1:5050'"),
        (("kvss://127.0.0.1",), {}, "host must be a name or an address, not the URL"),
        ((), {"port": 65536}, "a port is 1 to 65535, not 65536"),
        ((), {"timeout_s": "3"}, "timeout_s is a number of seconds, such as 2.5, not '3'"),
        ((), {"timeout_s": True}, "timeout_s is a number of seconds"),
        ((), {"retry": 3}, r"retry is a Retry, such as Retry\(attempts=3\), not 3"),
        ((), {"tls": 1}, "tls is True, the path of a file of authorities or an ssl.SSLContext, not 1"),
        ((), {"user": "ann"}, "user needs password beside it"),
        ((), {"password": "x"}, "password needs user beside it"),
        ((), {"user": "a b", "password": "x"}, "user must not contain a space, unlike 'a b'"),
        (
            (),
            {"user": "ann", "password": "x\nKV/1.0 DEL a"},
            "password must have at least one character and no line feed",
        ),
        ((), {"user": "ann", "password": b"x"}, "password is text, not bytes"),
        ((), {"encoding": "latin-1"}, "encoding is None for bytes or \"utf-8\" for str, not 'latin-1'"),
    ],
)
def test_a_wrong_option_gets_a_sentence(arguments: tuple[Any, ...], options: dict[str, Any], sentence: str) -> None:
    for face in FACES:
        with pytest.raises((TypeError, ValueError), match=sentence):
            face(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "a pool has a size of at least 1, not 0"),
        ({"size": 2.5}, "size is a number of connections, not 2.5"),
        ({"wait_s": -1}, "wait_s is at least 0"),
        ({"check_after_s": "x"}, "check_after_s is a number of seconds"),
    ],
)
def test_a_wrong_option_of_a_pool_gets_a_sentence(options: dict[str, Any], sentence: str) -> None:
    for pool in (KVPool, AsyncKVPool):
        with pytest.raises((TypeError, ValueError), match=sentence):
            pool(**options)


def test_a_retry_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        Retry(attempts=0)


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_from_url(face: Any) -> None:
    assert repr(face.from_url("kvss://ann@[::1]:77", password="x")).startswith(f"{face.__name__}('::1', 77")
    assert "5050" in repr(face.from_url("kvss://example.org"))
    with pytest.raises(ValueError, match="user needs password"):
        face.from_url("kvss://ann@127.0.0.1")
    with pytest.raises(ValueError, match="not a kvss:// URL"):
        face.from_url("redis://127.0.0.1")
    with pytest.raises(TypeError, match="a URL is text"):
        face.from_url(5050)


def test_the_password_is_shown_nowhere() -> None:
    config = ClientConfig("127.0.0.1", 5050, user="ann", password="sesame")
    assert "sesame" not in repr(config) + str(config.login())


@pytest.fixture
def unix_server(tmp_path: Path) -> Iterator[tuple[FakeServer, str]]:
    path = str(tmp_path / "kvss.sock")
    with fake_server(honest(), path=path) as server:
        yield server, f"unix:{path}"


def test_a_unix_socket(unix_server: tuple[FakeServer, str]) -> None:
    _, url = unix_server
    with KVClient.from_url(url, encoding="utf-8") as kv:
        assert kv.put("k", "v")

    async def get() -> str | None:
        async with AsyncKVClient.from_url(url, encoding="utf-8") as kv:
            return await kv.get("k")

    assert asyncio.run(get()) == "v"
    with pytest.raises(KVConnectError, match=f"^GET k: cannot connect to {url}x: No such file"):
        KVClient.from_url(url + "x").get(b"k")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key in one file, which is its own authority."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "-", "-out", "-"]
    path.write_bytes(subprocess.run([*command.split(), *names], capture_output=True, check=True).stdout)
    return path


Work = Callable[[dict[str, Any]], list[Any]]


def with_threads(options: dict[str, Any]) -> list[Any]:
    with KVClient("127.0.0.1", **options) as kv:
        big = kv.pipeline()
        for _ in range(20):
            big.get(b"big")
        return [kv.put(b"big", b"v" * 900_000), kv.get(b"none"), len(set(big.execute()))]


def with_asyncio(options: dict[str, Any]) -> list[Any]:
    async def work() -> list[Any]:
        async with AsyncKVClient("127.0.0.1", **options) as kv:
            first = [await kv.put(b"big", b"v" * 900_000), await kv.get(b"none")]
            return [*first, len(set(await asyncio.gather(*[kv.get(b"big") for _ in range(20)])))]

    return asyncio.run(work())


@pytest.mark.parametrize("work", [with_threads, with_asyncio])
def test_tls(certificate: Path, work: Work) -> None:
    with fake_server(honest(), certificate=certificate) as server:
        assert work({"port": server.port, "tls": certificate, "timeout_s": 10}) == [True, None, 1]
        with pytest.raises(KVConnectError, match=r"PUT big: .*its certificate is not trusted: self-signed certificate"):
            work({"port": server.port, "tls": True})
        with pytest.raises(KVConnectError, match="No such file"):
            work({"port": server.port, "tls": "nowhere.pem"})


@pytest.mark.parametrize("work", [with_threads, with_asyncio])
def test_a_server_that_does_not_speak_tls(certificate: Path, work: Work) -> None:
    with (
        fake_server(answering(b"426 UPGRADE_REQUIRED")) as server,
        pytest.raises(KVConnectError, match=r"^PUT big: cannot connect to .*: it does not speak TLS$"),
    ):
        work({"port": server.port, "tls": certificate, "timeout_s": 5, "connect_timeout_s": 2})


@pytest.mark.parametrize("work", [with_threads, with_asyncio])
def test_a_handshake_without_end_is_bounded(certificate: Path, work: Work) -> None:
    with (
        fake_server(Peer.stall) as server,
        pytest.raises(KVConnectError, match=r"no answer within 0.3 s"),
    ):
        work({"port": server.port, "tls": certificate, "connect_timeout_s": 0.3})


PROGRAM = """
import asyncio
from kvss_gevent import AsyncKVClient, AsyncKVPool, KVClient, KVPool

value: bytes | None = KVClient("127.0.0.1", 5050).get(b"name")
text: str | None = KVClient(encoding="utf-8", user="ann", password="x", tls=True).get("name")
pooled: str | None = KVPool.from_url("kvss://127.0.0.1", encoding="utf-8", size=3).get("name")

def hand_on(kv: KVClient) -> bool:
    return kv.put(b"name", b"John", ttl_s=60)

async def main() -> int | None:
    async with AsyncKVClient(encoding="utf-8") as kv, AsyncKVPool() as pool:
        names: list[str | None] = list(await asyncio.gather(kv.get("a"), kv.get("b")))
        return await pool.ttl(names[0].encode()) if names[0] else None
"""
WRONG = """
from kvss_gevent import KVClient
KVClient().get("name")
KVClient(encoding="utf-8").get(b"name")
KVClient("127.0.0.1", "5050")
KVClient(timeout=5)
"""


def test_a_type_checker_sees_precise_types(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, "right.py", "wrong.py"], capture_output=True, text=True, cwd=tmp_path, timeout=59, check=False
    )
    assert "right.py" not in done.stdout, done.stdout
    lines = {line.split(":")[1] for line in done.stdout.splitlines() if line.startswith("wrong.py")}
    assert lines >= {"3", "4", "5", "6"}, done.stdout + done.stderr
