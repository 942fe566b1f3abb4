"""The files of examples/service: the commands and settings in them are ones that the server takes."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kvss_gevent.cli import main

FILES = Path(__file__).parent.parent / "examples" / "service"


def kvss_words(line: str) -> list[str]:
    """Return the arguments behind /opt/kvss/bin/kvss, in a unit's or a Containerfile's line."""
    words = json.loads(line) if line.startswith("[") else line.split()
    assert words[0] == "/opt/kvss/bin/kvss"
    return [str(FILES / "kvss.toml") if word == "/etc/kvss.toml" else word for word in words[1:]]


def test_the_settings_of_the_unit_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = re.findall(r"^ExecStart=(.*)$", (FILES / "kvss.service").read_text(), re.MULTILINE)
    assert main([*kvss_words(line), "--check-config"]) == 0, capsys.readouterr().err


def test_the_commands_of_the_image_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    text = (FILES / "Containerfile").read_text()
    [line] = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    assert main([*kvss_words(line), "--check-config"]) == 0, capsys.readouterr().err
    [check] = re.findall(r"^HEALTHCHECK .* CMD (.*)$", text, re.MULTILINE)
    assert main([*kvss_words(check)[:-1], "--help"]) == 0
    assert kvss_words(check)[-1] == "STATS"
    assert "\nUSER kvss\n" in text


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for name in ("kvss.service", "kvss.socket"):
        text = (FILES / name).read_text().replace("/opt/kvss/bin/kvss", "/bin/true")  # it must be there
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "kvss.service")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
