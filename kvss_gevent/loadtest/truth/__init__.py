"""Servers whose truth is known, and the load tester run against them: what it reports against what they logged.

May import: protocol, settings, measure, loadtest, loadtest.workload, loadtest.engine, loadtest.report.
"""
