"""The page of the client library, made of the docstrings and signatures of what the package makes public."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import kvss_gevent
from kvss_gevent.client.client_options import ClientOptions, PoolOptions

BAR = "\\|"


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# API\n\n`make reference` makes this page from the code. [The client](../client.md) shows how to use it.\n"
    yield "```python\nfrom kvss_gevent import KVClient\n```\n"
    yield "`Text` stands for bytes, or for str where the client has an encoding. Times are in seconds."
    names = [(name, getattr(kvss_gevent, name)) for name in kvss_gevent.__all__]
    for name, one in names:
        if not issubclass(one, BaseException):
            yield from _class(name, one)
    for options in (ClientOptions, PoolOptions):
        yield f"\n## {options.__name__}\n\n{inspect.getdoc(options)}\n\n| keyword | type |\n|---|---|"
        for keyword, kind in inspect.get_annotations(options).items():
            yield f"| `{keyword}` | `{_type(kind).replace('|', BAR)}` |"
    yield "\n## Errors\n\n| error | is a | when |\n|---|---|---|"
    for name, one in names:
        if issubclass(one, BaseException):
            yield f"| `{name}` | `{one.__base__.__name__}` | {_line(one)} |"


def _class(name: str, one: Any) -> Iterator[str]:
    yield f"\n## {name}\n"
    yield f"```python\n{_signature(name, one)}\n```\n\n{inspect.getdoc(one)}"
    members = [member for member in dir(one) if not member.startswith("_")]
    for member in members:
        thing = inspect.getattr_static(one, member)
        if isinstance(thing, property):
            yield f"\n### {name}.{member}\n\nA property. {inspect.getdoc(thing) or ''}"
        elif callable(called := getattr(one, member)):
            yield f"\n### {name}.{member}\n\n```python\n{_signature(member, called)}\n```\n"
            yield inspect.getdoc(called) or ""


def _signature(name: str, called: Any) -> str:
    """Return how something is called, with an argument a line where that is long."""
    signature = inspect.signature(called)
    parameters = [str(one) for one in signature.parameters.values() if one.name != "self"]
    result = signature.return_annotation
    behind = "" if inspect.isclass(called) or result is inspect.Signature.empty else f" -> {_type(result)}"
    start = f"{'await ' if inspect.iscoroutinefunction(called) else ''}{name}"
    line = f"{start}({', '.join(map(_short, parameters))}){behind}"
    if len(line) <= 88:
        return line
    return f"{start}(\n" + "".join(f"    {_short(one)},\n" for one in parameters) + f"){behind}"


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None)
    return _short(text or inspect.formatannotation(annotation))


def _short(text: str) -> str:
    """Return a text without the modules in which types live."""
    text = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])|~", "", text)
    text = re.sub(r"Optional\[(\w+)\]", r"\1 | None", text)
    return re.sub(r"\*<class '(\w+)'>", r"Unpack[\1]", text)


def _line(one: Any) -> str:
    return " ".join((inspect.getdoc(one) or "").split("\n\n")[0].split())
