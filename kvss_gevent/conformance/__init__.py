"""Grades any KV/1.0 server from outside: cases as data, the code that runs them over sockets, and the report.

A plain case needs no sockets: packets in, reply lines out, and whether the connection ends.

May import: protocol, settings, pages, conformance.
"""

from kvss_gevent.conformance.case import Case
from kvss_gevent.conformance.cases import CASES, GROUPS

__all__ = ["CASES", "GROUPS", "Case"]
