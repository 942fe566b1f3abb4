"""Contests: many clients send at the same moment, and their replies are checked, by linearizability too.

May import: protocol, conformance.
"""
