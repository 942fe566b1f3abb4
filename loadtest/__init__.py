"""The load tester: Locust users on raw TCP. Each module says what it does; `locust -f loadtest/kvss_locust.py` loads them."""
