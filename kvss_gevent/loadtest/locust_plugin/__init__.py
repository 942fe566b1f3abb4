"""Connects the load tester with Locust: its events, master and workers, statistics, and web tab.

May import: protocol, settings, measure, loadtest, loadtest.workload, loadtest.engine, loadtest.report.
"""
