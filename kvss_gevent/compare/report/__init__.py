"""What a comparison says: sentences, tables, plots, the page, and differences between two reports.

May import: models, pages, compare, compare.experiments, compare.measuring.
"""
