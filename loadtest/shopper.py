"""A user written by hand: it fills a cart and looks at it. Run it with `kvss load -f loadtest/shopper.py ...`."""

from locust import between, task

from kvss_gevent.loadtest.locust_plugin.load_users import KvssUser


class Shopper(KvssUser):
    """Puts something into its cart, and looks three times as often."""

    wait_time = between(0.01, 0.05)

    @task
    def put_into_cart(self) -> None:
        """Write the cart."""
        self.client.put(f"cart:{id(self)}", "apples and pears")

    @task(3)
    def look_at_cart(self) -> None:
        """Read the cart; None where it is empty."""
        self.client.get(f"cart:{id(self)}")
