"""`kvss user`: adds, changes, lists and removes the users of a server, in the file that `kvss serve --users` reads."""

import argparse
import getpass
import sys
from pathlib import Path

from kvss_gevent.cli.parser import add_subcommand
from kvss_gevent.core.password_hash import hash_password
from kvss_gevent.core.user_file import Role, User, UsersError, change_users, check_name, list_users
from kvss_gevent.settings.fail import Exit, Fail

EXAMPLES = """examples:
  kvss user add users.txt alice --role write     asks for the password twice
  echo secret | kvss user add users.txt bob      takes it from standard input
  kvss user passwd users.txt alice
  kvss user list users.txt
  kvss user remove users.txt bob

A running server reads the file again on SIGHUP.

exit codes: 0 done, 1 there is no such user, 2 wrong usage or a file that cannot be used
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", metavar="COMMAND", required=True)
    for action, summary in (
        ("add", "add a user; an existing user gets the new password and role"),
        ("passwd", "change the password of a user"),
        ("list", "show names and roles"),
        ("remove", "remove a user"),
    ):
        one = add_subcommand(actions, action, summary, EXAMPLES)
        one.add_argument("file", type=Path, metavar="FILE", help="the file of users; `add` creates it")
        if action != "list":
            one.add_argument("name", metavar="NAME", help="name of the user")
        if action == "add":
            one.add_argument(
                "--role",
                choices=[role.name.lower() for role in Role],
                default="read",
                help="read: GET, TTL, STATS; write: all data commands; admin: everything (default: read)",
            )


def run(args: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code."""
    try:
        if args.action == "list":
            for user in list_users(args.file):
                print(f"{user.name} {user.role.name.lower()}")
            return Exit.OK
        name = check_name(args.name)
        if args.action == "add":
            role = Role[args.role.upper()]
        else:
            known = {user.name: user for user in list_users(args.file)}
            if name not in known:
                remedy = f"`kvss user list {args.file}` lists the users."
                raise Fail(f"{args.file} has no user {name}", remedy, Exit.FAILED)
            role = known[name].role
        changed = None if args.action == "remove" else User(name, role, hash_password(_password(name)))
        change_users(args.file, name, changed)
    except (UsersError, ValueError) as error:
        raise Fail(str(error), "`kvss user --help` has examples.") from None
    return Exit.OK


def _password(name: str) -> bytes:
    """Ask twice at a terminal, or read one line from a script's standard input. Raises UsersError."""
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline(4096).rstrip(b"\r\n")
    first = getpass.getpass(f"Password for {name}: ")
    if getpass.getpass("Again: ") != first:
        raise UsersError("the two passwords are not the same")
    return first.encode()
