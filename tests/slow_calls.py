"""A client, and the unit of time, for tests of the slow log."""

from dataclasses import dataclass
from typing import Any

MS = 1_000_000


@dataclass(eq=False)
class Client:
    address: Any
    sock: Any = None
