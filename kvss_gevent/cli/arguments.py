"""Types of numbers that commands take as arguments; each refuses a word with what it takes instead."""

from argparse import ArgumentTypeError
from collections.abc import Callable


def number(least: float, most: float, what: str = "number") -> Callable[[str], float]:
    """Return the type of a number with bounds."""

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not least <= found <= most:
            raise ArgumentTypeError(f"{text!r} is not a {what} from {least:g} to {most:.15g}")
        return found

    return parse


def seconds(least: float, most: float) -> Callable[[str], float]:
    """Return the type of a time."""
    return number(least, most, "number of seconds")


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return the type of a whole number."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
            raise ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse
