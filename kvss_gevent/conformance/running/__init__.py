"""Runs cases against a server: learns its ways first, starts it again after a crash, tries once more what failed.

May import: conformance, protocol.
"""
