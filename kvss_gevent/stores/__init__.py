"""The stores: where keys and values live. base.py says what a store is; every other file is one of them."""
