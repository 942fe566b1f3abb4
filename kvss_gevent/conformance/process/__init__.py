"""Starts a submission, watches it, ends all that it started, and asks the kernel about its sockets.

May import: nothing.
"""
