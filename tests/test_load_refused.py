"""What the load tester refuses: bad input, and a server that is none."""

import pytest
from load_runs import run
from load_servers import serving

pytestmark = pytest.mark.server
BAD = [
    (["--kv-rate", "0", "-H", "127.0.0.1:1"], 2, "--kv-rate: 0 is not a possible rate"),
    (["-H", "127.0.0.1:1"], 3, "no server at 127.0.0.1:1: cannot connect"),
]
MORE_BAD = [
    (["--kv-mix", "foo", "-H", "127.0.0.1:1"], 2, "unknown mix"),
    ([], 2, "no server to load was given"),
    (["-H", "kvss://ann@127.0.0.1"], 2, "without a user"),
    (["-H", "127.0.0.1:1", "--kv-out", "/dev/null/x"], 2, "--kv-out: cannot write to /dev/null/x"),
    (["-H", "127.0.0.1:1", "--kv-server-pid", "2147483647"], 2, "--kv-server-pid: there is no process 2147483647"),
    (["-H", "127.0.0.1:1", "--kv-verify", "on", "--kv-value-size", "9"], 2, "verification needs values of"),
]


@pytest.mark.parametrize(
    ("options", "code", "complaint"), [*BAD, *(pytest.param(*case, marks=pytest.mark.full) for case in MORE_BAD)]
)
def test_bad_input_is_one_clear_line_and_an_exit_code(options: list[str], code: int, complaint: str) -> None:
    done = run("", "-t", "1", *options)
    assert done.code == code
    lines = [line for line in done.err.splitlines() if line and "/INFO/" not in line]
    assert len(lines) <= 2
    assert complaint in lines[0]


def test_what_is_no_kv_server_is_told_so() -> None:
    with serving(lambda *_: b"SSH-2.0-OpenSSH") as port:
        done = run(port, "-t", "1")
    assert done.code == 3
    assert "is not a KV/1.0 server: 'SSH-2.0-OpenSSH'" in done.err
