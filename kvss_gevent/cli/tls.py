"""`kvss tls make-dev`: writes the certificates of a new authority and of a server, for a classroom."""

import argparse
import os
from pathlib import Path

from kvss_gevent.cli.parser import add_subcommand
from kvss_gevent.settings.fail import Exit, Fail, install

EXAMPLES = """examples:
  kvss tls make-dev certs                         for clients on this machine
  kvss tls make-dev certs --name lab.example.org  for a name that clients use
  kvss serve --tls-cert certs/server.pem --tls-key certs/server-key.pem
  kvss client --tls --ca certs/ca.pem

Everyone who has the server's key can pretend to be the server. These certificates are for teaching: they are valid for
a year, and no other machine trusts them.

exit codes: 0 done, 2 wrong usage, or a file cannot be written, 3 trustme is not installed
"""
LOCAL = ("localhost", "127.0.0.1", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    make = add_subcommand(actions, "make-dev", "write ca.pem, server.pem and server-key.pem into a folder", EXAMPLES)
    make.add_argument(
        "folder", type=Path, metavar="DIR", help="folder for the files; it is created if it does not exist"
    )
    make.add_argument("--name", action="append", default=[], help="a name or address of the server; may be repeated")
    make.add_argument("--force", action="store_true", help="replace the files that are there")


def run(args: argparse.Namespace) -> int:
    """Write the files and print their paths; returns the exit code."""
    try:
        import trustme
    except ModuleNotFoundError:
        raise Fail("trustme, which makes certificates, is not installed", install("tls"), Exit.UNREACHABLE) from None
    names = ("ca.pem", "server.pem", "server-key.pem")
    authority = trustme.CA(organization_name="kvss-gevent, for teaching")
    try:
        server = authority.issue_cert(*LOCAL, *args.name)
    except ValueError as error:  # an empty name, or characters that no host name has
        remedy = "Give --name a host name or an address, such as lab.example.org or 192.0.2.7."
        raise Fail(f"a certificate cannot have one of these names: {error}", remedy) from None
    chain = b"".join(one.bytes() for one in server.cert_chain_pems)
    contents = (authority.cert_pem.bytes(), chain, server.private_key_pem.bytes())
    try:
        there = [name for name in names if (args.folder / name).exists()]
        if there and not args.force:
            raise Fail(f"{args.folder / there[0]} exists already", "Give another folder, or --force to replace it.")
        args.folder.mkdir(parents=True, exist_ok=True)
        for name, content in zip(names, contents, strict=True):
            _write(args.folder / name, content, 0o600 if "key" in name else 0o644)
    except OSError as error:
        raise Fail(f"cannot write {error.filename}: {error.strerror}", "Give another folder.") from None
    for name in names:
        print(args.folder / name)
    return Exit.OK


def _write(path: Path, content: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
