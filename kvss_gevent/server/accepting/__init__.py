"""What a server needs to accept clients: the listening socket, bounds on connections, enough file descriptors.

May import: protocol, settings, core, server.
"""
