"""The environment variables of kvss that are not settings, and a warning about variables that nothing reads."""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from kvss_gevent.settings.config import options, variable

PREFIX: Final = "KVSS_"
CONFIG: Final = "KVSS_CONFIG"
OTHERS: Final = {
    CONFIG: "the file of settings that `kvss serve` reads",
    "KVSS_PASSWORD": "the password for `--user` of `kvss client`, `top` and `conform`, and for `kvss load --kv-user`",
    "KVSS_STORE_PASSWORD": "the password of `kvss serve` on its store's server",
}
"""The variables that are not settings, and what each holds."""
_MARKS: Final = ("KVSS_KEEPER",)
"""Variables that kvss itself sets for processes that it starts."""


def unread(environ: Mapping[str, str], more: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each KVSS_ variable that no command reads, with the likeliest name.

    more: further names that are read.
    """
    read = {*OTHERS, *more, *(variable(option.name) for option in options())}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in read and name not in _MARKS:
            stems = [known.removeprefix(PREFIX) for known in sorted(read)]
            near = get_close_matches(name.removeprefix(PREFIX), stems, 1)
            yield f"no command reads {name}" + (f"; did you mean {PREFIX}{near[0]}?" if near else "")
