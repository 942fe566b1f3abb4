"""The launcher of servers: what it reads of their logs."""

import sys

from kvss_gevent.measure.launch import launched

SCRIPT = """
import os
print("listening on 127.0.0.1:1", flush=True)
for number in range(20_000):
    os.write(2, b"%d\\n" % number)
"""


def test_who_reads_the_log_of_a_server_disturbs_none_of_its_lines() -> None:
    with launched([sys.executable, "-c", SCRIPT]) as writer:
        while writer.process.poll() is None:
            writer.logged()
        assert writer.logged().splitlines() == [str(number) for number in range(20_000)]
