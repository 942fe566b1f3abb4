"""How the cells of a plan are measured: servers, cores, generators, one process for each cell.

May import: protocol, settings, stores, core, measure, models, loadtest, loadtest.workload, loadtest.engine,
loadtest.report, compare, compare.experiments.
"""
