"""The load tester on Locust: its options, the search for the highest rate, repeated runs, and starting Locust.

May import: protocol, settings, client, loadtest.workload, loadtest.engine, loadtest.report, loadtest.locust_plugin.
"""
