"""Where keys and values live. `base` says what a store is, `open` picks one by its URL.

May import: protocol, settings.
"""
