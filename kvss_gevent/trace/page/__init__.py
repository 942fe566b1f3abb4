"""Shows a scene: the page's data, the page with its scripts, and a trace that Perfetto opens.

May import: models, pages, trace, trace.scenes, trace.analysis.
"""
