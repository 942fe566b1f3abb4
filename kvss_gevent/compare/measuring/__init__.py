"""Measures the trials of a plan: servers, cores, load generators, and a process for each trial.

May import: protocol, settings, stores, core, measure, models, loadtest, loadtest.workload, loadtest.engine,
loadtest.report, compare, compare.experiments.
"""
