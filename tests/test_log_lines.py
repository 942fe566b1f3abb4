"""What others say cannot look like a line of the log, nor steer a terminal."""

import json
import logging

import pytest

from kvss_gevent.settings.log import MOST_REPEATS, NOTICE, REPEATS_S, JsonFormatter, Repeats, TextFormatter

FORGED = "x\n2026-01-01 00:00:00,000 NOTICE stopped by SIGTERM\r\x1b[2J\u202e\x85\u2028y"


def record(*, is_error: bool) -> logging.LogRecord:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        found = (type(error), error, error.__traceback__) if is_error else None
        return logging.LogRecord("kvss", logging.ERROR, "", 1, "said: %s", (FORGED,), found)


@pytest.mark.parametrize("is_error", [False, True], ids=["message", "traceback"])
def test_a_text_line(is_error: bool) -> None:
    first, *others = TextFormatter().format(record(is_error=is_error)).split("\n")
    assert "said: x\\n2026" in first
    assert all(line.startswith("  ") for line in others)
    assert bool(others) == is_error
    assert all(line.isprintable() for line in (first, *others))


@pytest.mark.parametrize("is_error", [False, True], ids=["message", "traceback"])
def test_a_json_line(is_error: bool) -> None:
    line = JsonFormatter().format(record(is_error=is_error))
    assert line.isprintable()
    assert json.loads(line)["message"] == f"said: {FORGED}"


def test_a_client_that_causes_error_after_error_does_not_fill_the_log() -> None:
    now_s = 0.0
    repeats = Repeats(lambda: now_s)

    def logged(level: int, form: str, number: int) -> list[str]:
        records = [logging.LogRecord("kvss", level, "", 1, form, (at,), None) for at in range(number)]
        return [record.getMessage() for record in records if repeats.filter(record)]

    assert len(logged(logging.ERROR, "failed: %d", MOST_REPEATS + 7)) == MOST_REPEATS
    assert len(logged(logging.WARNING, "another: %d", 3)) == 3
    for level in (logging.INFO, NOTICE):
        assert len(logged(level, "wanted: %d", MOST_REPEATS + 7)) == MOST_REPEATS + 7
    now_s = REPEATS_S
    assert logged(logging.ERROR, "failed: %d", 2) == ["failed: 0 (7 such lines were left out before)", "failed: 1"]
    assert logged(logging.WARNING, "another: %d", 1) == ["another: 0"]
