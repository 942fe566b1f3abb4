"""The users of the load tester: a class of one's own, YCSB, the other ready-made ones, and shapes."""

from pathlib import Path
from typing import Any

import pytest
from load_runs import run
from load_servers import serving

pytestmark = pytest.mark.server


@pytest.mark.full
def test_a_users_own_class_takes_ten_lines(tmp_path: Path) -> None:
    locustfile = tmp_path / "mine.py"
    locustfile.write_text(
        "from locust import between, task\n"
        "from kvss_gevent.loadtest.locust_plugin.load_users import KvssUser\n"
        "\n"
        "class Shopper(KvssUser):\n"
        "    wait_time = between(0.01, 0.02)\n"
        "\n"
        "    @task\n"
        "    def buy(self):\n"
        '        self.client.put("cart", "apples and pears")\n'
        '        assert self.client.get("cart") == b"apples and pears"\n'
    )
    with serving() as port:
        done = run(port, "-u", "2", "-t", "1", "--kv-warmup", "0s", out=tmp_path / "a", locustfile=str(locustfile))
        rated = ("--kv-rate", "100", "--kv-warmup", "500ms")
        paced = run(port, "-u", "2", "-t", "2", *rated, out=tmp_path / "b", locustfile=str(locustfile))
    assert done.code == 0, done.err
    assert done.results["environment"]["user_classes"] == ["Shopper"]
    assert set(done.results["commands"]) == {"GET", "PUT"}
    assert paced.code == 0, paced.err
    assert paced.results["commands"]["PUT"]["hit"]["lag"]["count"] == pytest.approx(200, abs=4), "a task is an arrival"


def run_users(tmp_path: Path, *names: str) -> Any:
    with serving() as port:
        users = ("-u", str(2 * len(names)), "-t", "1", "--kv-warmup", "0s", "--kv-keys", "200")
        done = run(port, *users, *names, out=tmp_path)
    assert done.code == 0, done.err
    assert set(done.results["environment"]["user_classes"]) == set(names)
    return done.results["commands"]


def test_ycsb_users_work(tmp_path: Path) -> None:
    commands = run_users(tmp_path, "YcsbF")
    assert set(commands) == {"GET", "RMW", "RMW GET", "RMW PUT"}
    counts = {command: found["hit"]["response"]["count"] for command, found in commands.items()}
    assert counts["RMW GET"] == pytest.approx(counts["RMW"], abs=4)
    assert counts["RMW PUT"] == pytest.approx(counts["RMW"], abs=4)
    assert counts["GET"] == pytest.approx(counts["RMW"], rel=0.2)


@pytest.mark.full
def test_ycsb_d_reads_what_was_inserted_last_and_finds_it(tmp_path: Path) -> None:
    commands = run_users(tmp_path, "YcsbD")
    assert set(commands) == {"GET", "PUT"}
    assert set(commands["GET"]) == {"hit"}


@pytest.mark.full
def test_the_other_ready_made_users_work_side_by_side(tmp_path: Path) -> None:
    commands = run_users(tmp_path, "YcsbA", "Pipelining", "ConnectPerRequest", "Idle")
    assert set(commands) == {"GET", "PUT", "DEL", "OTHER"}


@pytest.mark.full
def test_a_shape_varies_the_rate(tmp_path: Path) -> None:
    with serving() as port:
        options = ("--kv-shape", "steps:100,300:1s", "--kv-warmup", "0s", "--kv-keys", "50")
        done = run(port, "-u", "2", *options, out=tmp_path)
    rows = done.results["rows"]
    assert done.results["window"]["measured_s"] == 2
    assert done.results["requests"]["answered"] == pytest.approx(400, abs=8)
    assert rows[0]["answered"] == pytest.approx(100, abs=40)
    assert rows[1]["answered"] == pytest.approx(300, abs=60)
