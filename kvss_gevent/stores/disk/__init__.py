"""The store in an LMDB file: records, transactions, and how the writes of many clients come together.

May import: protocol, settings, stores, stores.disk.file.
"""
