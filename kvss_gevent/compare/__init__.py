"""The laboratory: every concurrency model under the same experiments, compared in one report.

`kvss compare run` measures, writes every row down as it comes, and makes the report.

May import: protocol, settings, models, measure, compare.experiments, compare.measuring, compare.report.
"""
