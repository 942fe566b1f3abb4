"""Records which client waits for which: events of conversations, a ring in shared memory, the flight recorder.

May import: protocol, settings, stores, core.
"""
