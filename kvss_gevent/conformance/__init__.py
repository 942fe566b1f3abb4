"""A black-box scorecard for any KV/1.0 server: cases as data, run over sockets, shown as a report.

The table needs no sockets: a plain case is packets in, reply lines out, and whether the connection ends.

May import: protocol, settings, pages, conformance.
"""

from kvss_gevent.conformance.case import Case
from kvss_gevent.conformance.cases import CASES, GROUPS

__all__ = ["CASES", "GROUPS", "Case"]
