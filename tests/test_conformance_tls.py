"""`kvss conform --tls`: every connection speaks TLS (rule 13), and the cases that TLS cannot run are named."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from reference_server import State, running, talking
from tls_peer import authority, server_side

from kvss_gevent.cli import main


def encrypted(sock: socket.socket, state: State) -> None:
    """A correct server that speaks nothing but TLS, from OpenSSL on the socket itself."""
    with server_side().wrap_socket(sock, server_side=True) as inside:
        talking()(inside, state)


@pytest.fixture
def server() -> Iterator[str]:
    with running(encrypted) as port:
        yield f"localhost:{port}"


@pytest.fixture
def ca(tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(file))
    return str(file)


def test_a_correct_server_gets_every_point_over_tls_and_half_closing_is_named_as_not_run(
    server: str, ca: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conform", server, "--ca", ca, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert {"framing", "robustness", "concurrency"} <= {group["name"] for group in card["groups"]}
    left_out = {"half-close-answers", "half-close-closes", "incomplete-unanswered"}
    assert not left_out & {case["id"] for case in card["cases"]}
    assert f"Not run, because TLS 1.2 cannot close one side alone: {', '.join(sorted(left_out))}." in card["notes"]
    assert main(["conform", server, "--insecure", "--only", "quit-bye"]) == 0
    out, err = capsys.readouterr()
    assert "Not run" not in out
    assert err == "(--insecure: anyone in the network can read and change what is sent)\n"


def test_who_cannot_have_tls_is_told_before_any_case_is_run(
    server: str, ca: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = "  --ca FILE names an authority to trust, --insecure trusts anybody.\n"
    with running(lambda sock, _: sock.sendall(b"426 UPGRADE_REQUIRED\n")) as plain:
        for target, option, why, remedy in (
            (server, ["--tls"], "its certificate is not trusted: ", trust),
            (server.replace("localhost", "127.0.0.1"), ["--ca", ca], "its certificate is not trusted: IP addr", trust),
            (f"127.0.0.1:{plain}", ["--ca", ca], "it does not speak TLS\n", "  Leave --tls away"),
        ):
            assert main(["conform", target, *option]) == 3
            out, err = capsys.readouterr()
            assert out == ""
            assert err.startswith(f"kvss conform: {target}: TLS failed: {why}")
            assert remedy in err
    assert main(["conform", "--command", "true", "--ca", ca]) == 2
    assert "TLS and --command cannot be used together" in capsys.readouterr().err


def test_a_handshake_without_an_answer_ends_in_time(ca: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        assert main(["conform", target, "--ca", ca, "--timeout", "0.2"]) == 3
    assert f"nothing answers at {target}: no connection in time" in capsys.readouterr().err
