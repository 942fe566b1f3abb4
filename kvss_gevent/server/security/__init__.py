"""What a server asks of strangers: TLS, and a login.

May import: protocol, settings, stores, core, server.
"""
