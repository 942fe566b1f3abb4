"""The colours of all pictures: M. Okabe and K. Ito's set, which colour-blind readers tell apart (2008).

A colour never stands alone: a line has a dash and a marker of its own, and a label at its end.
"""

from typing import Final, NamedTuple

ORANGE: Final = "#e69f00"
SKY: Final = "#56b4e9"
GREEN: Final = "#009e73"
YELLOW: Final = "#f0e442"
BLUE: Final = "#0072b2"
VERMILION: Final = "#d55e00"
PURPLE: Final = "#cc79a7"

INK: Final = "#1d2733"
MUTED: Final = "#526070"
GREY: Final = "#b4bcc6"
"""Whatever a picture shows for comparison only."""
GRID: Final = "#e4e9ef"


class Look(NamedTuple):
    """How one series is drawn: a colour, an SVG dash pattern, and the name of a marker in matplotlib's words."""

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
"""Yellow is left out: on white it is nearly not there."""


def look(number: int) -> Look:
    """Return the look of the series with this number, counted from 0; a picture holds at most len(LOOKS) of them."""
    return LOOKS[number % len(LOOKS)]
