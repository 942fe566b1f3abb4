"""Contests between clients at one moment, and the judge of their histories.

May import: protocol, conformance.
"""
