"""The client library: commands and conversation without a socket, then clients and pools for threads and for asyncio.

May import: protocol, settings.
"""
