"""What `locust -f loadtest/kvss_locust.py` loads: the ready-made users. They are defined in users.py."""

import sys
from pathlib import Path

# Locust adds the current directory to the path; from anywhere else the project's root must be added.
if (_root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.append(_root)

from kvss_gevent.loadtest.locust_plugin.users import (
    ConnectPerRequest,
    Idle,
    KvssMix,
    KvssUser,
    Pipelining,
    YcsbA,
    YcsbB,
    YcsbC,
    YcsbD,
    YcsbF,
)

__all__ = [
    "ConnectPerRequest",
    "Idle",
    "KvssMix",
    "KvssUser",
    "Pipelining",
    "YcsbA",
    "YcsbB",
    "YcsbC",
    "YcsbD",
    "YcsbF",
]
