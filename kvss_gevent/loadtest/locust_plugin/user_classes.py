"""Finds the user classes that run, and their host, from the locustfile and the command line."""

from inspect import isclass
from typing import Any

from locust import TaskSet

from kvss_gevent.settings.fail import Fail


def ours(environment: Any) -> list[Any]:
    """Return the user classes for KV/1.0; a locustfile may also have users of other protocols."""
    return [user for user in environment.user_classes if hasattr(user, "by_name_only")]


def leave_out_unnamed(environment: Any) -> None:
    """Remove the user classes that run only when the command line names them."""
    classes = environment.user_classes
    if not environment.parsed_options.user_classes:
        kept = [user for user in classes if not getattr(user, "by_name_only", False)]
        classes[:] = kept or classes


def host_of(environment: Any) -> str | None:
    """Return the host that was given, or the one that all user classes for KV/1.0 name; else None."""
    hosts = {user.host for user in ours(environment) if user.host}
    return environment.host or (hosts.pop() if len(hosts) == 1 else None)


def check_tasks(environment: Any, open_loop: bool) -> None:
    """Raise Fail for a class that has no task after --tags, or whose tasks cannot follow an open loop."""
    environment._filter_tasks_by_tags()
    for user in ours(environment):
        if not user.tasks:
            asked = environment.parsed_options.tags or environment.parsed_options.exclude_tags
            cause = f"{user.__name__} has no task" + (f" with the tags {', '.join(asked)}" if asked else "")
            raise Fail(cause, "Remove --tags and --exclude-tags, or name other tags, or give the class a task.")
        for task in user.tasks:
            if open_loop and isclass(task) and issubclass(task, TaskSet) and task.wait_time is not TaskSet.wait_time:
                cause = (
                    f"{user.__name__}: its tasks {task.__name__} have their own wait_time and do not follow --kv-rate"
                )
                raise Fail(cause, f"Remove the wait_time of {task.__name__}, or remove --kv-rate.")
