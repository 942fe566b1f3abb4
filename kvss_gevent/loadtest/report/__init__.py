"""What a run says: figures, verdict, text, page and files.

May import: protocol, settings, loadtest, loadtest.engine.
"""
