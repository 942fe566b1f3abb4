"""The tab "KVSS latency" in Locust's web page."""
from typing import Any


def install(web_ui: Any, campaign: Any) -> None:
    """Add the tab."""
