"""Pages of metrics and what makes them, for tests."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from kvss_gevent.core.service import Service
from kvss_gevent.observe.observer import Observer
from kvss_gevent.stores.memory import MemoryStore

Samples = dict[tuple[str, str], float]


def served(observer: Observer, store: object = None) -> Service:
    """Return a service that the observer counts."""
    service = Service(store or MemoryStore(), tally=observer)
    observer.start(service, may_wait=False)
    return service


def samples(text: str) -> Samples:
    """Read a page with the official parser, which refuses whatever is not as it should be."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
