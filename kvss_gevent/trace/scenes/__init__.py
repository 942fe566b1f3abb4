"""Scenes: small workloads that each show one thing, the clients that play them, and servers that note events.

May import: protocol, settings, stores, core, server, models, measure, trace.
"""
