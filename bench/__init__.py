"""Benchmarks: what the server, its stores and the load tester cost, beside redis-server. No figure here is a test.

May import: protocol, settings, stores, core, server, measure, cli, loadtest.engine, loadtest.locust_plugin,
loadtest.workload, stores.disk, stores.remote, trace, bench.processes.
"""
