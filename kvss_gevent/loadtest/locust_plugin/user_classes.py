"""What the locustfile and the command line chose: which user classes run, against which host."""

from typing import Any


def leave_out_unnamed(environment: Any) -> None:
    """Leave out the ready-made users that run only when the command line names their class."""
    classes = environment.user_classes
    if not environment.parsed_options.user_classes:
        kept = [user for user in classes if not getattr(user, "by_name_only", False)]
        classes[:] = kept or classes


def host_of(environment: Any) -> str | None:
    """Return the host that was given, or the one that all user classes name; else None."""
    hosts = {user.host for user in environment.user_classes if user.host}
    return environment.host or (hosts.pop() if len(hosts) == 1 else None)
