"""The load tester inside Locust: its events, master and workers, statistics, web tab.

May import: protocol, settings, measure, loadtest, loadtest.workload, loadtest.engine, loadtest.report.
"""
