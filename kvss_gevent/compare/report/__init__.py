"""What a comparison says: sentences, tables, plots, the page, and differences between two reports.

May import: models, compare, compare.experiments, compare.measuring.
"""
