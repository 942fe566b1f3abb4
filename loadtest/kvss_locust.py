"""Users for KV/1.0 servers: what `locust -f loadtest/kvss_locust.py` and `kvss load` run. Read it, copy it, change it.

KvssMix runs when no class is named; the others run by name, such as `locust -f loadtest/kvss_locust.py YcsbA ...`.
"""

from locust import constant_pacing, task

from kvss_gevent.loadtest.locust_plugin.load_users import KvssUser, WorkloadUser


class KvssMix(WorkloadUser):
    """GET, PUT and DEL in the shares of --kv-mix, --kv-depth requests at a time."""


class YcsbA(WorkloadUser):
    """YCSB A, update heavy: 50 % reads, 50 % updates, zipfian."""

    ycsb = "a"
    by_name_only = True


class YcsbB(WorkloadUser):
    """YCSB B, read mostly: 95 % reads, 5 % updates, zipfian."""

    ycsb = "b"
    by_name_only = True


class YcsbC(WorkloadUser):
    """YCSB C, read only, zipfian."""

    ycsb = "c"
    by_name_only = True


class YcsbD(WorkloadUser):
    """YCSB D, read latest: 95 % reads of recent keys, 5 % inserts."""

    ycsb = "d"
    by_name_only = True


class YcsbF(WorkloadUser):
    """YCSB F, read-modify-write: 50 % reads, 50 % reads followed by a write of the same key, zipfian."""

    ycsb = "f"
    by_name_only = True


class Pipelining(WorkloadUser):
    """The mix, 16 requests at a time unless --kv-depth says otherwise."""

    depth = 16
    by_name_only = True


class ConnectPerRequest(WorkloadUser):
    """The mix, with a new connection for each request; connecting is part of the response time."""

    connects_per_request = True
    by_name_only = True


class Idle(KvssUser):
    """Keeps a connection and asks for STATS once a second: what it costs a server to keep connections."""

    wait_time = constant_pacing(1)
    by_name_only = True

    @task
    def ask(self) -> None:
        """Ask for STATS."""
        self.client.stats()
