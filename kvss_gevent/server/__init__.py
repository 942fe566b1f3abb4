"""The gevent server: accepting, the loop of a connection, its limits, and several worker processes.

May import: protocol, settings, stores, core, observe, server.accepting,
server.security.
"""
