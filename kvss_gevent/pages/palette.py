"""The colours of all pictures: the set of M. Okabe and K. Ito (2008), which colour-blind readers can tell apart.

No series is marked by its colour alone: each line also has its own dash pattern and marker, and a label at its end.
"""

from typing import Final, NamedTuple

ORANGE: Final = "#e69f00"
SKY: Final = "#56b4e9"
GREEN: Final = "#009e73"
BLUE: Final = "#0072b2"
VERMILION: Final = "#d55e00"
PURPLE: Final = "#cc79a7"

INK: Final = "#1d2733"
MUTED: Final = "#526070"
GREY: Final = "#b4bcc6"
"""For what a picture shows only for comparison."""
GRID: Final = "#e4e9ef"


class Look(NamedTuple):
    """How one series is drawn: its colour, its SVG dash pattern, and matplotlib's name of its marker."""

    colour: str
    dash: str
    marker: str


LOOKS: Final = (
    Look(BLUE, "", "o"),
    Look(VERMILION, "6 3", "s"),
    Look(GREEN, "2 2", "^"),
    Look(PURPLE, "8 3 2 3", "D"),
    Look(ORANGE, "1 3", "v"),
    Look(SKY, "10 4", "P"),
)
"""Yellow is left out: it can hardly be seen on white."""


def look(number: int) -> Look:
    """Return the look of a series, numbered from 0. With more than len(LOOKS) series some look alike."""
    return LOOKS[number % len(LOOKS)]
