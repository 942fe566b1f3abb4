"""Tests the load tester with servers of known behaviour: compares its reports with the servers' logs.

May import: protocol, settings, measure, loadtest, loadtest.workload, loadtest.engine, loadtest.report.
"""
