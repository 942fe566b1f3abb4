"""Locust imported without letting it patch this process: other tests need their own sockets and threads."""

import os

os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
try:
    from locust import stats
finally:
    # Processes that other tests start must be patched as always.
    del os.environ["LOCUST_SKIP_MONKEY_PATCH"]

__all__ = ["stats"]
