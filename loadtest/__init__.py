"""The load tester: Locust users on raw TCP, loaded by `locust -f loadtest/kvss_locust.py`."""
