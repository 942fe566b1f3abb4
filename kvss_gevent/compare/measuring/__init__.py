"""How the trials of a plan are measured: servers, cores, generators, one process for each trial.

May import: protocol, settings, stores, core, measure, models, loadtest, loadtest.workload, loadtest.engine,
loadtest.report, compare, compare.experiments.
"""
