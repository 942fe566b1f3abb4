"""The laboratory: every concurrency model under the same experiments, compared in one report.

`python -m loadtest.compare run` measures, writes every row down as it comes, and makes the report; see cli.py. What is
measured stands in experiments/, one file each; how a server is started and loaded for it in workbench.py.
"""
