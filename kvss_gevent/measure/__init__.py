"""Load and process usage: what benchmarks, the laboratory and the tests share.

May import: protocol.
"""
