"""`kvss wireshark`: installs the dissector of KV/1.0, makes captures, and prints statistics of a capture."""

import argparse
import shutil
import subprocess
from pathlib import Path

from kvss_gevent.cli.parser import add_subcommand
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.wire_tools.install import PROFILE, dissector, install

EXAMPLES = f"""\
examples:
  kvss wireshark install                 then: wireshark -C {PROFILE}
  kvss wireshark statistics talk.pcapng  requests, replies, and times
  kvss wireshark show-path               where the dissector is
  kvss wireshark capture DIR             real captures for a lecture; needs
                                         root or the group wireshark
  tshark -X lua_script:$(kvss wireshark show-path) -r talk.pcapng -Y kv
      without installing anything

Wireshark reads port 5050, and every connection that begins with `KV/1.0 `, as KV/1.0. For others: Analyze, Decode As,
KV/1.0; or Edit, Preferences, Protocols, KV/1.0, Port. Statistics are in the menu Statistics.

exit codes: 0 done, 1 tshark or the capture failed, 2 wrong usage, or a file cannot be read or written
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    add_subcommand(actions, "install", f"install the dissector and the profile {PROFILE} for this user", EXAMPLES)
    add_subcommand(actions, "show-path", "print the path of the dissector's file", EXAMPLES)
    statistics = add_subcommand(
        actions, "statistics", "count and time the requests in a capture file, with tshark", EXAMPLES
    )
    statistics.add_argument("file", type=Path, metavar="FILE", help="a capture, such as talk.pcapng")
    capture = add_subcommand(
        actions, "capture", "run the scenes of docs/wire.md, and capture each with dumpcap", EXAMPLES
    )
    capture.add_argument(
        "folder", type=Path, metavar="DIR", help="folder for the files; it is created if it does not exist"
    )
    capture.add_argument("scenes", nargs="*", default=[], metavar="SCENE", help="only these (all)")


def run(args: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""
    if args.action == "show-path":
        print(dissector())
    elif args.action == "install":
        try:
            written = install()
        except OSError as error:
            raise Fail(f"cannot write {error.filename}: {error.strerror}", "Is it your home directory?") from None
        for path in written:
            print(path)
    elif args.action == "statistics":
        return _statistics(args.file)
    else:
        from kvss_gevent.wire_tools.loopback_capture import capture

        for path in capture(args.folder, args.scenes):
            print(path)
    return Exit.OK


def _statistics(file: Path) -> int:
    tshark = shutil.which("tshark")
    if tshark is None:
        raise Fail("tshark is not installed", "It comes with Wireshark; on Debian and Ubuntu the package is tshark.")
    if not file.is_file():
        raise Fail(f"{file} is not a file", "Give a capture file, such as talk.pcapng.")
    script = ["-X", f"lua_script:{dissector()}", "-X", "lua_script1:statistics"]
    command = [tshark, "-n", "-q", *script, "-r", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1].removeprefix("tshark: ")
    if "KV/1.0:" not in done.stdout:
        raise Fail(f"tshark could not read {file}: {said}", "Is it a capture file?", Exit.FAILED)
    print(done.stdout.strip(), flush=True)
    if done.returncode:
        raise Fail(
            f"tshark could not read {file} to its end: {said}",
            "The figures above are those of the part that it read.",
            Exit.FAILED,
        )
    if "KV/1.0: 0 requests" in done.stdout:
        raise Fail(
            f"{file} holds no request of KV/1.0",
            "On ports other than 5050 the capture must have a connection's first packets.",
            Exit.FAILED,
        )
    return Exit.OK
