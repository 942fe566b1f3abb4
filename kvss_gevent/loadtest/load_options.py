"""The load tester's options: one dataclass, from which the command line, the variables and the web form are derived.

Locust passes options on as texts. So each text is checked when it is entered and read when it is used, by the same
function.
"""

import argparse
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from kvss_gevent.loadtest.load_transport import MakeEnds, plain, tls
from kvss_gevent.loadtest.report import thresholds
from kvss_gevent.loadtest.workload import mix as workload_mix
from kvss_gevent.loadtest.workload import shapes
from kvss_gevent.loadtest.workload.keys import KeyDistribution
from kvss_gevent.loadtest.workload.keys import parse as parse_keys
from kvss_gevent.loadtest.workload.proving_values import least_bytes
from kvss_gevent.protocol import wire


class LoadParser(Protocol):
    """The part of Locust's argument parser that is used here."""

    def add_argument(self, *names: str, **settings: Any) -> Any:
        """Add one option."""

    def set_defaults(self, **defaults: Any) -> None:
        """Change the defaults of existing options."""


def _option(default: str, read: Callable[[str], Any], help_text: str, web: bool = True) -> Any:
    return field(metadata={"default": default, "read": read, "help": help_text, "web": web})


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text.replace("_", ""))
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if not least <= number <= most:
            raise ValueError(f"{text} is outside {least} to {most}")
        return number

    return read


def _positive(text: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not 0 < number <= shapes.MAX_RATE:
        raise ValueError(f"{text} is not a possible rate: give more than 0 and at most 10,000,000 a second")
    return number


def seconds(text: str) -> float:
    """Read `5`, `5s`, `500ms`, `2m` or `1h` as seconds. Raises ValueError saying what is wrong."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)?", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a length of time: write 5s, 500ms, 2m or 1h")
    return float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}[match[2] or "s"]


def _bounded_seconds(text: str) -> float:
    length_s = seconds(text)
    if not 0.01 <= length_s <= 3600:
        raise ValueError(f"{text!r} is outside 10ms to 1h")
    return length_s


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"{text!r} is none of: {', '.join(words)}")
        return text.lower()

    read.words = words  # type: ignore[attr-defined]
    return read


def _on_off(text: str) -> bool:
    return _one_of("on", "off")(text) == "on"


_on_off.words = ("on", "off")  # type: ignore[attr-defined]


def _user_name(text: str) -> str:
    if " " in text or not text.isprintable():
        raise ValueError(f"{text!r} has a space or a control character")
    return text


@dataclass(frozen=True, slots=True)
class Options:
    """The values of --kv-*: times in seconds, sizes in bytes, rates in requests per second over all users."""

    mix: workload_mix.Mix = _option("80:15:5", workload_mix.parse_mix, "shares of GET:PUT:DEL, or get=80,put=20")  # noqa: RUF009  a field of dataclasses
    keys: int = _option("10000", _whole(1, 10_000_000), "number of keys")
    key_dist: KeyDistribution = _option(  # noqa: RUF009  a field of dataclasses
        "uniform", parse_keys, "how keys are chosen: uniform, zipfian[:0.99], latest, hotspot[:0.2:0.8], sequential"
    )
    value_size: workload_mix.Sizes = _option(  # noqa: RUF009  a field of dataclasses
        "100", workload_mix.parse_sizes, "size of values in bytes: 100, a range 64-1024, or weighted 100:9,1000:1"
    )
    depth: int = _option("1", _whole(1, 1024), "requests that are sent together before their replies are read")
    ttl: int = _option("0", _whole(0, wire.MAX_EXPIRY_S), "seconds until a written value expires (PUTEX); 0 for PUT")
    user: str = _option("", _user_name, "user who logs in on each connection; KVSS_PASSWORD is the password")
    tls: bool = _option("off", _on_off, "use TLS, and check the server's certificate")
    ca: str = _option("", str, "file of authorities to trust; with it, TLS is on", web=False)
    insecure: bool = _option("off", _on_off, "use TLS, but check no certificate")
    preload: bool = _option("on", _on_off, "store every key before the users start")
    seed: int = _option(
        "1", _whole(0, 2**63), "the same seed gives the same requests; each worker and user gets a different part"
    )
    rate: float | None = _option(
        "", _positive, "open loop: requests per second over all users, whatever the server does; empty for closed loop"
    )
    arrival: str = _option("constant", _one_of("constant", "poisson"), "how open-loop requests are spaced")
    queue: str = _option(
        "each",
        _one_of("each", "shared"),
        "which user sends a due request: always the same one (each), or any free one (shared)",
    )
    backlog: int = _option(
        "100000", _whole(1, 10_000_000), "open loop: most requests that may wait for each user; more are dropped"
    )
    verify: bool = _option("on", _on_off, "check every value that is read")
    warmup: float = _option(
        "1s", seconds, "time before the measured window (-t) in which users send and nothing is counted"
    )
    drain: float = _option("5s", seconds, "how long to wait for replies after the measured window")
    timeout: float = _option(
        "10s", _bounded_seconds, "a reply later than this is a failure, and its connection is closed"
    )
    give_up: float = _option("5s", _bounded_seconds, "end the run if no server could be reached for this long")
    shape: shapes.Shape | None = _option(  # noqa: RUF009  a field of dataclasses
        "",
        shapes.parse,
        "vary the rate: steps:500,1000:5s, ramp:0-2000:60s, spike:500,5000:10s, soak:500:1h, or several, with commas",
    )
    require: tuple[thresholds.Requirement, ...] = _option(
        "",
        thresholds.parse,
        "requirements; if one is not met, the exit code is 1: p99<5ms, errors<0.1%, rate>=0.99, trusted",
    )
    live: str = _option(
        "auto",
        _one_of("auto", "on", "off"),
        "print a line every second during the run; auto: if stderr is a terminal",
        web=False,
    )
    out: str = _option("", str, "directory for results.json, rows.csv, .hgrm, .hlog and report.html", web=False)
    server_pid: int = _option(
        "0", _whole(0, 2**31), "process of the server on this machine, to measure its CPU and memory", web=False
    )

    @property
    def login(self) -> bytes:
        """The request that logs in (rule 12); empty if there is no user. Raises ValueError if there is no password."""
        if not self.user:
            return b""
        password = os.environ.get("KVSS_PASSWORD", "")
        if not password or "\n" in password:
            raise ValueError("--kv-user needs a password of one line in the variable KVSS_PASSWORD")
        return f"{wire.VERSION.decode()} AUTH {self.user} {password}\n".encode()

    @property
    def transport(self) -> MakeEnds:
        """How the bytes get to the server. Raises ValueError for a file that holds no authorities."""
        if not (self.tls or self.ca or self.insecure):
            return plain
        try:
            return tls(self.ca, self.insecure)
        except ValueError as error:
            raise ValueError(f"--kv-ca: {error}") from None

    @property
    def rates(self) -> shapes.Shape | None:
        """The open-loop rate over time; None in closed loop."""
        return self.shape or (shapes.constant(self.rate) if self.rate is not None else None)

    @property
    def open_loop(self) -> bool:
        """Whether requests follow a schedule instead of waiting for the reply before."""
        return self.rates is not None

    @property
    def shares_queue(self) -> bool:
        """Whether due requests wait in one queue for all users of a process."""
        return self.queue == "shared"


def read_options(texts: Mapping[str, str]) -> Options:
    """Read options from {field name: text}; for a missing or empty text the default is used.

    Raises ValueError; its message names the option and says what is wrong.
    """
    values: dict[str, Any] = {}
    for option in fields(Options):
        text = str(texts.get(option.name) or option.metadata["default"])
        try:
            values[option.name] = option.metadata["read"](text)
        except ValueError as error:
            raise ValueError(f"{flag(option.name)}: {error}") from None
    options = Options(**values)
    _check(options)
    return options


def _check(options: Options) -> None:
    _ = options.login, options.transport  # raise ValueError
    needed = least_bytes(options.keys)
    if options.verify and options.value_size.least_bytes < needed:
        raise ValueError(f"--kv-value-size: verification needs values of {needed} bytes or more; see --kv-verify off")
    if options.value_size.greatest_bytes > wire.MAX_LINE_BYTES - 1024:
        raise ValueError(f"--kv-value-size: KV/1.0 lines end at {wire.MAX_LINE_BYTES} bytes, requests included")
    if options.shares_queue and not options.open_loop:
        raise ValueError("--kv-queue: requests wait in a queue only in an open loop, so give --kv-rate too")


def flag(name: str) -> str:
    """Return the command line option of a field."""
    return "--kv-" + name.replace("_", "-")


def variable(name: str) -> str:
    """Return the environment variable of a field."""
    return f"KVSS_LOAD_{name.upper()}"


def variables() -> list[str]:
    """Return the environment variables of all fields."""
    return [variable(option.name) for option in fields(Options)]


def add_arguments(parser: LoadParser) -> None:
    """Add all options to Locust's parser, and let its web page and its master listen on loopback only."""
    parser.set_defaults(web_host=wire.DEFAULT_HOST, master_bind_host=wire.DEFAULT_HOST)
    for option in fields(Options):
        meta = option.metadata
        words = getattr(meta["read"], "words", None)
        # Locust's web form shows only options of the parser itself, and none of an argument group.
        parser.add_argument(
            flag(option.name),
            dest=f"kv_{option.name}",
            default=meta["default"],
            env_var=variable(option.name),
            help=meta["help"].replace("%", "%%") + (f" (default {meta['default']})" if meta["default"] else ""),
            include_in_web_ui=meta["web"],
            **({"nargs": "?", "const": "on"} if words == _on_off.words else {}),  # type: ignore[attr-defined]
            **({"choices": words} if words else {"type": _checked(meta["read"]), "metavar": "<text>"}),
        )


def _checked(read: Callable[[str], Any]) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            if text:
                read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return check


def texts_of(namespace: Any) -> dict[str, str]:
    """Return {field name: text} from Locust's parsed options."""
    return {option.name: getattr(namespace, f"kv_{option.name}", "") for option in fields(Options)}
