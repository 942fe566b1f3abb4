"""Sends and counts requests in one process: connection, users, loops, clock, histograms.

May import: protocol, settings, client, measure, loadtest, loadtest.workload.
"""
