"""Scenes: small workloads that show one thing (`catalogue`), the clients that play them, servers that note events.

May import: protocol, settings, stores, core, server, models, measure, trace.
"""
