"""ClosedLoad, process usage and starting servers: what benchmarks, the laboratory, the load tester and the tests share.

May import: protocol, settings, models.
"""
