"""Reports on a run: figures, verdict, thresholds, text, page and files.

May import: protocol, settings, pages, loadtest, loadtest.workload, loadtest.engine.
"""
