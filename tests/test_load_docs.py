"""docs/loadtest.md: its commands run, its output is what they print, its tables name what there is."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from load_runs import ROOT, environment

from kvss_gevent.loadtest.load_options import Options, flag
from kvss_gevent.measure.launch import free_port

pytestmark = pytest.mark.server

PAGE = (ROOT / "docs" / "loadtest.md").read_text()
MAY_BE = re.compile(r"  (\*|>=)   |held up by generator| *[\d,]+/s  | *in doubt: ")
"""Lines that depend on the machine: marks, standstills of the generator, the trials of a search."""
BLOCKS = re.findall(r"```console\n\$ (.+)\n((?:.*\n)*?)```", PAGE)


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "kvss_gevent", "serve", "127.0.0.1", "0"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    port = server.stdout.readline().strip().rpartition(":")[2]
    yield {"PORT": port, "SERVER": str(server.pid)}
    server.terminate()
    server.wait(10)
    server.stdout.close()


def masked(text: str) -> list[str]:
    """Return what of a report does not change from run to run: its words, without numbers and without the verdict."""
    lines = [line for line in text.partition("Verdict:")[0].splitlines() if line.strip() and not MAY_BE.match(line)]
    return [" ".join(re.sub(r"(?:>=)?[\d,.]*\d\*?", "#", line).split()) for line in lines]


def test_the_page_has_its_examples() -> None:
    assert len(BLOCKS) == 4


@pytest.mark.full
@pytest.mark.parametrize(("command", "output"), BLOCKS, ids=[str(number) for number in range(1, len(BLOCKS) + 1)])
def test_an_example_prints_what_the_page_shows(
    command: str, output: str, served: dict[str, str], tmp_path: Path
) -> None:
    [mine] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mine.py").write_text(mine)
    master = str(free_port())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = command.replace("mine.py", str(tmp_path / "mine.py")).replace(":5050", f":{served['PORT']}")
    command = command.replace("--processes", f"--master-bind-port {master} --master-port {master} --processes")
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=environment(PATH=path, SERVER=served["SERVER"]),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert masked(done.stdout) == masked(output.replace(":5050", f":{served['PORT']}"))


def test_every_option_is_in_the_table() -> None:
    for option in fields(Options):
        assert f"| `{flag(option.name)}` |" in PAGE


def test_the_stall_shows_in_the_page_as_it_says() -> None:
    [stalled] = [output for command, output in BLOCKS if "-STOP" in command]
    figures = {
        line[:22].strip(): [int(n.strip(">=*").replace(",", "")) for n in line[22:].split()]
        for line in stalled.splitlines()
        if line.startswith(("response, good", "service, good"))
    }
    assert figures["response, good"][3] > 1_000_000
    assert figures["service, good"][3] < 100_000
