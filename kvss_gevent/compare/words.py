"""Numbers and lists as words of a sentence."""

from collections.abc import Iterable


def listed(names: Iterable[str]) -> str:
    """Return `a, b and c`; empty for none."""
    words = list(names)
    return words[0] if len(words) == 1 else " and ".join([", ".join(words[:-1]), words[-1]]) if words else ""


def times(factor: float) -> str:
    """Return `3.2 times`."""
    return f"{factor:.1f} times" if factor < 9.95 else f"{factor:,.0f} times"


def many(number: float, what: str) -> str:
    """Return `1 client`, `20 clients`."""
    return f"{number:,.0f} {what}" + ("" if number == 1 else "s")


def milliseconds(microseconds: float) -> str:
    """Return a time in the unit that suits it."""
    if microseconds < 1000:
        return f"{microseconds:.0f} us"
    return f"{microseconds / 1000:.1f} ms" if microseconds < 100_000 else f"{microseconds / 1000:,.0f} ms"


def size_of(size_bytes: float) -> str:
    """Return `16 B`, `64 KiB` or `1 MiB`."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:g} {unit}"
    return f"{size_bytes:g} B"


def figure_of(value: float) -> str:
    """Return a number with three significant digits, or as a whole number from 1,000 on."""
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
