"""The load tester on Locust. `options` declares its flags, `search` finds the highest rate that keeps a promise.

May import: protocol, settings, loadtest.workload, loadtest.engine, loadtest.report, loadtest.locust_plugin.
"""
