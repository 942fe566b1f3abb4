"""What can be seen inside a running server: metrics and their page, the slow log, a watch for what blocks the loop.

May import: core, protocol, settings, stores.
"""
