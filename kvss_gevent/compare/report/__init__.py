"""Reports on a comparison: sentences, tables, plots, the page, and the differences between two reports.

May import: settings, models, pages, compare, compare.experiments, compare.measuring.
"""
