"""What people set and what they are told: the configuration, its options, messages with an exit code, files.

May import: protocol.
"""
