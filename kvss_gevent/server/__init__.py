"""The gevent server: the loop of a connection, its limits, accepting, and several worker processes.

May import: protocol, settings, stores, core, observe, server.security.
"""
