"""How requests are sent and counted in one process: connection, users, loops, clock, histograms.

May import: protocol, settings, measure, loadtest, loadtest.workload.
"""
