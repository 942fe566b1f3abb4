"""The store on Valkey or Redis, one server or a cluster: batches, nodes, slots, redirections.

May import: protocol, settings, stores.
"""
