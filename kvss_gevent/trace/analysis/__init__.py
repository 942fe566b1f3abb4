"""Analyses a recording: the parts of every request's time, the causes of its waits, a verdict, and sentences.

May import: protocol, models, trace, trace.scenes.
"""
