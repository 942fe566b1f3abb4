"""Who waits for whom: events at the session seam (`events`, `conversation`), and what keeps them (`ring`, `flight`).

May import: protocol, stores, core.
"""
