"""What a recording says: the owners of every request's time (`parts`), who was waited for (`causes`), and in words.

May import: protocol, models, trace, trace.scenes.
"""
