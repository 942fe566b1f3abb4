"""Programs that benchmarks run as processes of their own.

May import: core, measure, observe, server, settings, stores.
"""
