"""One conversation without a socket, and what all conversations of a server share.

May import: protocol, settings, stores.
"""
