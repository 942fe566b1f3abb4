"""The data file itself: opened, locked, watched for what else happens to it, kept safe by checkpoints.

May import: settings, stores.
"""
