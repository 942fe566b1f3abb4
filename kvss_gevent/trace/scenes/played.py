"""What the clients of a scene saw: their packets, the replies, and when each of them came."""

from dataclasses import dataclass, field

ThreadTimes = dict[int, tuple[int, int]]
"""(run delay, CPU time) in nanoseconds, by thread."""


@dataclass(slots=True)
class Asked:
    """One packet of a client and its replies. Times are nanoseconds of the monotonic clock, 0 for what did not happen.

    Bytes are counted from the connection's first byte: [first_byte, end_byte) is the packet, reply_end_byte the end of
    its replies. rest_ns: when the client began to send the second half. delivered_ns: when the last packet of the
    replies arrived at the client's kernel. codes: how many receives began with a reply of this code.
    """

    client: int
    label: str
    first_byte: int
    end_byte: int
    began_ns: int
    sent_first_ns: int = 0
    rest_ns: int = 0
    sent_ns: int = 0
    delivered_ns: int = 0
    received_ns: int = 0
    reply_first_byte: int = 0
    reply_end_byte: int = 0
    codes: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Played:
    """What the clients saw of a scene. By the client's number: deaf_ns, when it did not read; left_ns, when it left.

    looks: readings of the server's threads, each with its time. The threads' own events end before they send a reply.
    """

    start_ns: int
    end_ns: int
    asked: list[Asked]
    deaf_ns: dict[int, tuple[int, int]]
    left_ns: dict[int, int]
    looks: list[tuple[int, ThreadTimes]]
