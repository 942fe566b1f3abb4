"""The laboratory: measures all concurrency models with the same experiments, and compares them in one report.

`kvss compare run` measures, writes every row to a file at once, and then makes the report.

May import: protocol, settings, models, measure, compare.experiments, compare.measuring, compare.report.
"""
