"""The demo as a user sees it: every request answered as the course document says, and a clean end."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from kvss_gevent.client.terminal.demo_script import shown

pytestmark = pytest.mark.server


def test_the_demo_shows_requests_and_replies() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kvss_gevent", "demo"], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""
    steps = re.findall(r"  (->|<-) (.*)", done.stdout)
    basic = [text for _, text in steps[:12]]
    assert basic == [
        r"KV/1.0 PUT name John\n",
        r"201 CREATED\n",
        r"KV/1.0 GET name\n",
        r"200 OK John\n",
        r"KV/1.0 PUT name Jane\n",
        r"200 OK\n",
        r"KV/1.0 GET name\n",
        r"200 OK Jane\n",
        r"KV/1.0 DEL name\n",
        r"204 NO_CONTENT\n",
        r"KV/1.0 GET name\n",
        r"404 NOT_FOUND\n",
    ]
    assert (
        r"200 OK uptime: 0:00:00; connections: 1; commands_processed: 6; get_requests: 3; put_requests: 2; "
        r"del_requests: 1; keys_stored: 0\n"
    ) in [re.sub(r"0:00:\d\d", "0:00:00", text) for arrow, text in steps if arrow == "<-"]
    codes = [text[:3] for arrow, text in steps if arrow == "<-"]
    assert {"200", "201", "204", "400", "404", "426"} <= set(codes)
    assert done.stdout.endswith("(the server has closed the connection)\n")


def demo(environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "kvss_gevent", "demo"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=50, env={**os.environ, **environ}, check=False
    )


def test_a_server_that_cannot_start_is_exit_code_3(tmp_path: Path) -> None:
    fault = "import sys\nif 'serve' in sys.orig_argv:\n    raise SystemExit('no gevent here')\n"
    (tmp_path / "gevent.py").write_text(fault)
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    # Where the coverage of processes is measured, Python would import gevent before the command begins.
    done = demo({"PYTHONPATH": path, "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""})
    assert done.returncode == 3
    assert "no gevent here" in done.stderr
    assert "kvss demo: the demo's server did not start" in done.stderr


def test_the_demo_takes_no_settings_from_the_environment_and_tells_a_misspelled_one_once(tmp_path: Path) -> None:
    done = demo({"KVSS_MAX_LINE": "nonsense", "KVSS_STORE": f"disk:{tmp_path}/mine", "KVSS_PROT": "6000"})
    assert done.returncode == 0
    assert done.stderr.count("KVSS_PROT") == 1
    assert not list(tmp_path.iterdir())


def test_bytes_are_shown_escaped_and_cut() -> None:
    assert shown(b"\xff\x1b[0m\n") == r"\xff\x1b[0m\n"
    assert shown("città".encode()) == "città"
    assert shown(b"x" * 500).endswith("... (500 bytes)")
