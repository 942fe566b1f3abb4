"""A black-box scorecard for any KV/1.0 server: cases as data (table/), run over sockets (runner.py), shown (report.py).

The table needs no sockets: a plain case is packets in, reply lines out, and whether the connection ends.
"""

from kvss_gevent.conformance.case import Case
from kvss_gevent.conformance.cases import CASES, GROUPS

__all__ = ["CASES", "GROUPS", "Case"]
