"""What `kvss top` shows of a running server: readings, what happened between two of them, and a screen or lines of it.

May import: client, observe, protocol, settings.
"""
