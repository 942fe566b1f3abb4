"""The client library and the interactive client.

May import: protocol, settings.
"""
