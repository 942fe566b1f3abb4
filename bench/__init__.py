"""Benchmarks: what the server costs, measured beside redis-server. No figure here is a test."""
