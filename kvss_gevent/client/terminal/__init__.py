"""The interactive client: what typed lines mean, the keyboard, hints, and the script of the demo.

May import: client, protocol, settings.
"""
