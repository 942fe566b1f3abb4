"""A load shape: users come and go in waves. Run it with `kvss load -f loadtest/waves.py,loadtest/shopper.py ...`."""

from math import pi, sin

from locust import LoadTestShape


class Waves(LoadTestShape):
    """Ten users on average, up to 18 and down to 2, a wave every 20 s, for a minute."""

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are to be now, and how many may start a second; None ends the run."""
        run_time_s = self.get_run_time()
        if run_time_s > 60:
            return None
        return round(10 + 8 * sin(2 * pi * run_time_s / 20)), 10
