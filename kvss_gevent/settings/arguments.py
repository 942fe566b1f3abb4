"""Argument types for numbers. The error for a wrong word says which numbers are allowed."""

from argparse import ArgumentTypeError
from collections.abc import Callable


def number(least: float, most: float, what: str = "number") -> Callable[[str], float]:
    """Return the type of a number between two bounds."""

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
    """Return the type of a time in seconds."""
    return number(least, most, "number of seconds")


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return the type of a whole number."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
            raise ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse
