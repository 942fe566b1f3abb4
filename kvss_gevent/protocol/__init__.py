"""KV/1.0 as constants and pure functions: framing, grammar, reply codes, the STATS line, the client's errors.

May import: nothing.
"""
