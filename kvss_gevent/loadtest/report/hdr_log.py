"""Writes HdrHistogram's file formats .hgrm and .hlog, which its own tools can read.

Sources: HdrHistogram's outputPercentileDistribution (.hgrm), histogram log format 1.2 and V2 encoding (.hlog).
"""

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator
from math import log2
from typing import TextIO

from kvss_gevent.loadtest.engine.histogram import (
    HALF_BITS,
    HIGHEST_US,
    LOWEST_US,
    SIGNIFICANT_DIGITS,
    SUB_BUCKETS,
    Histogram,
    highest_us,
)

_ENCODING_COOKIE = 0x1C849303 | 0x10
_COMPRESSION_COOKIE = 0x1C849304 | 0x10
_TICKS_PER_HALF_DISTANCE = 5
_BUCKET_COUNT = HIGHEST_US.bit_length() - HALF_BITS


def hgrm(histogram: Histogram) -> str:
    """Return the percentile distribution as text; values are in microseconds."""
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    for percent, value_us, seen in distribution(histogram):
        line = f"{value_us:12.3f} {percent / 100:2.12f} {seen:10d}"
        lines.append(line if percent == 100 else f"{line} {1 / (1 - percent / 100):14.2f}")
    lines += [
        f"#[Mean    = {histogram.mean_us:12.3f}, StdDeviation   = {histogram.stddev_us:12.3f}]",
        f"#[Max     = {histogram.max_us:12.3f}, TotalCount     = {histogram.total:12.3f}]",
        f"#[Buckets = {_BUCKET_COUNT:12d}, SubBuckets     = {SUB_BUCKETS:12d}]",
        "",
    ]
    return "\n".join(lines)


def distribution(histogram: Histogram) -> Iterator[tuple[float, int, int]]:
    """Yield (percent, value in microseconds, number of values up to it); steps get smaller up to 100, the last one."""
    total = histogram.total
    level = 0.0
    seen = 0
    for index in sorted(histogram.counts):
        seen += histogram.counts[index]
        while 100.0 * seen / total >= level:
            yield level, highest_us(index), seen
            # The distance to 100 % halves with every 5 lines.
            level += 100.0 / (_TICKS_PER_HALF_DISTANCE * 2 ** (log2(100 / (100 - level)) + 1))
            if seen == total:
                yield 100.0, highest_us(index), seen
                return


def encode(histogram: Histogram) -> str:
    """Return the compressed V2 encoding in base64, as in a line of the log."""
    counts = histogram.counts
    payload = bytearray()
    position = 0
    for index in sorted(index for index, count in counts.items() if count):
        if index > position:
            payload += _varint(-(index - position))
        payload += _varint(counts[index])
        position = index + 1
    head = struct.pack(">IIIIQQd", _ENCODING_COOKIE, len(payload), 0, SIGNIFICANT_DIGITS, LOWEST_US, HIGHEST_US, 1.0)
    packed = zlib.compress(head + bytes(payload))
    return base64.b64encode(struct.pack(">II", _COMPRESSION_COOKIE, len(packed)) + packed).decode()


def write_log(out: TextIO, started_at: float, intervals: Iterable[tuple[float, float, str, int]]) -> None:
    """Write an interval log: the start in seconds since the epoch, then (offset_s, length_s, code, max_us) rows."""
    out.write("#[Histogram log format version 1.2]\n")
    out.write(f"#[StartTime: {started_at:.3f} (seconds since epoch)]\n")
    out.write(f"#[BaseTime: {started_at:.3f} (seconds since epoch)]\n")
    out.write('"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n')
    for offset_s, length_s, code, max_us in intervals:
        out.write(f"{offset_s:.3f},{length_s:.3f},{max_us / 1000:.3f},{code}\n")


def _varint(value: int) -> bytes:
    """Return one count in ZigZag LEB128; a negative number stands for so many empty buckets."""
    number = (value << 1) ^ (value >> 63)
    out = bytearray()
    while number >= 0x80 and len(out) < 8:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
