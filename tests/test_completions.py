"""`kvss completions`: each shell loads its script and completes commands, options, and what options take."""

import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from kvss_gevent.cli import COMMANDS, whole_parser
from kvss_gevent.cli.completions import SHELLS, script

EXPECTED = {
    "kvss ser": {"serve"},
    "kvss serve --mo": {"--model"},
    "kvss serve --model thr": {"threads"},
    "kvss serve --sync ": {"always", "interval", "none"},
    "kvss load se": {"search"},
    "kvss load run --kv-mi": {"--kv-mix"},
    "kvss compare run --prof": {"--profile"},
    "kvss completions f": {"fish"},
    "kvss show bu": {"burn"},
}
ASK_BASH = """
source "$1"
complete -p kvss >/dev/null || exit 1
while IFS= read -r line; do
    read -ra COMP_WORDS <<<"$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    "$(complete -p kvss | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" kvss
    echo "${COMPREPLY[*]}"
done
"""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    return name


def ask(shell: str, file: Path) -> list[set[str]]:
    """Return what a real shell offers for each line of EXPECTED."""
    if shell == "zsh":
        return ask_zsh(file)
    if shell == "fish":
        lines = "; ".join(f"complete -C '{line}'; echo ==" for line in EXPECTED)
        command = ["fish", "--no-config", "-c", f"source {file}; {lines}"]
    else:
        command = ["bash", "-c", ASK_BASH, "bash", str(file)]
    done = subprocess.run(
        command, input="\n".join(EXPECTED) + "\n", capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    if shell == "bash":
        return [set(line.split()) for line in done.stdout.splitlines()]
    return [{line.split("\t")[0] for line in part.splitlines() if line} for part in done.stdout.split("==\n")[:-1]]


def ask_zsh(file: Path) -> list[set[str]]:
    """Return for each line of EXPECTED the words that zsh shows when the tab key is pressed, of those expected."""
    child = pexpect.spawn("zsh", ["-f"], encoding="utf-8", timeout=50, dimensions=(200, 200), env={"TERM": "dumb"})
    shown = []
    try:
        child.sendline(f"PS1='%%%%'; fpath=({file.parent} $fpath); autoload -U compinit; compinit -u -D; echo loa''ded")
        child.expect("loaded")
        for line, words in EXPECTED.items():
            child.send(f"{line}\t\t")
            found = child.expect([*sorted(words), pexpect.TIMEOUT])
            shown.append(words if found < len(words) else set())
            child.sendcontrol("u")
        return shown
    finally:
        child.close(force=True)


def test_a_real_shell_completes_commands_options_and_values(shell: str, tmp_path: Path) -> None:
    file = tmp_path / "_kvss"
    file.write_text(script(whole_parser(), shell))
    assert ask(shell, file) == list(EXPECTED.values())


@pytest.mark.parametrize("shell_name", SHELLS)
def test_every_command_and_option_is_in_the_script(shell_name: str) -> None:
    text = script(whole_parser(), shell_name)
    for parser in whole_parser().walk():
        for flag in parser._option_string_actions:
            assert flag.lstrip("-") in text
    assert all(name in text for name in COMMANDS)


def test_the_command_prints_the_script_and_names_the_shells_it_knows() -> None:
    kvss = [sys.executable, "-m", "kvss_gevent", "completions"]
    done = subprocess.run([*kvss, "bash"], capture_output=True, text=True, timeout=60, check=True)
    assert "complete " in done.stdout
    refused = subprocess.run([*kvss, "csh"], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "bash" in refused.stderr
