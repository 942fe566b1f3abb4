"""Pages of metrics as a server makes them, for tests of kvss top."""

from kvss_gevent.observe.openmetrics import render
from kvss_gevent.observe.shared_figures import SharedFigures


def page(handled_us: int, requests: int) -> str:
    """Return the page of a server that handled requests in a time."""
    figures = SharedFigures(1)
    figures.rows[0].replies[0] = requests
    figures.rows[0].replies[8] = requests
    figures.rows[0].histogram("GET")[(handled_us * 1000).bit_length() - 10] = requests
    figures.rows[0]["cpu_us"] = requests * 1000
    return render(figures, 1, 1, 1.0)
