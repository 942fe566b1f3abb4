"""Runs cases against a server: learns its dialect first, restarts it after a crash, runs failed cases once more.

May import: conformance, protocol.
"""
