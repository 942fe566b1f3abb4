"""Starts a submission, watches it, ends all its processes, and asks the kernel about its sockets.

May import: nothing.
"""
