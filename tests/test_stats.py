"""Both forms of a STATS reply, as numbers (rule 8)."""

import pytest

from kvss_gevent.protocol.stats_reply import Stats, parse_stats

COUNTERS = b"connections: 1; commands_processed: 6; get_requests: 3; put_requests: 2; del_requests: 1; keys_stored: 4"


@pytest.mark.parametrize(
    ("uptime", "seconds"),
    [
        (b"0:05:23", 323),
        (b"23:59:59", 86_399),
        (b"1 day, 0:00:00", 86_400),
        (b"12 days, 1:02:03", 12 * 86_400 + 3723),
    ],
)
def test_the_readme_form_with_its_uptime(uptime: bytes, seconds: int) -> None:
    assert parse_stats(b"uptime: " + uptime + b"; " + COUNTERS) == Stats(
        uptime_s=seconds,
        keys_stored=4,
        commands_processed=6,
        connections=1,
        get_requests=3,
        put_requests=2,
        del_requests=1,
    )


def test_the_lab_form_counts_the_request_itself() -> None:
    assert parse_stats(b"keys=0 uptime=323s served=7") == Stats(uptime_s=323, keys_stored=0, commands_processed=6)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"keys=0 uptime=323 served=7",
        b"keys=0 uptime=323s served=7 ",
        b"keys=-1 uptime=323s served=7",
        b"keys=" + b"9" * 5000 + b" uptime=323s served=7",
        b"uptime: 0:5:23; " + COUNTERS,
        b"uptime: 0:05:23; " + COUNTERS + b"; more: 1",
        b"uptime: 0:05:23; " + COUNTERS.replace(b"1", "\N{ARABIC-INDIC DIGIT ONE}".encode()),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not the data of a STATS reply"):
        parse_stats(data)
