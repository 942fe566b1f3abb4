"""The store in an LMDB file: records, transactions, group commit, checkpoints.

May import: protocol, settings, stores.
"""
