"""Programs that benchmarks run as processes of their own, and how these are driven and compared.

May import: core, measure, observe, server, settings, stores.
"""
