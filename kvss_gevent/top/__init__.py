"""What `kvss top` shows of a running server: readings, the rates between two readings, and their display.

May import: client, observe, protocol, settings.
"""
