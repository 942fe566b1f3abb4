"""What a wait is put down to, on recordings made by hand: the clocks of a thread say what its notes cannot."""

from dataclasses import replace

from kvss_gevent.trace.analysis.causes import Stretch, Why
from kvss_gevent.trace.analysis.parts import Owner
from kvss_gevent.trace.analysis.scene_verdict import analyse
from kvss_gevent.trace.events import What
from kvss_gevent.trace.ring import Noted
from kvss_gevent.trace.scenes.catalogue import SCENES
from kvss_gevent.trace.scenes.played import Asked, Played, ThreadTimes
from kvss_gevent.trace.scenes.recording import Recording

THREAD = 77
US = 1_000


def noted(
    what: What, began_us: int, ended_us: int, delays_us: tuple[int, int] = (0, 0), conversation: int = 1
) -> Noted:
    """Return an event of the one thread, which has no core for so long before its begin and before its end."""
    opens = what is What.OPEN
    began_ns, ended_ns = began_us * US, ended_us * US
    before_ns, after_ns = (delay * US for delay in delays_us)
    sizes = (THREAD, 1, b"") if opens else (10, 5, b"KV/1.0 GET client:%d\n" % conversation)
    return Noted(0, what, conversation, *sizes[:2], began_ns, 0, before_ns, ended_ns, 0, after_ns, sizes[2])


def asked(client: int, began_us: int, delivered_us: int) -> Asked:
    """Return a request that is sent at once and whose reply the client takes when it comes."""
    sent_ns, delivered_ns = (began_us + 1) * US, delivered_us * US
    return Asked(client, "GET", 0, 10, began_us * US, sent_ns, 0, sent_ns, delivered_ns, delivered_ns, 0, 5)


def stretches(
    events: list[Noted], requests: list[Asked], looks: list[tuple[int, ThreadTimes]], number: int = 0
) -> list[Stretch]:
    """Return what is said of one request of an event loop."""
    played = Played(0, 10_000 * US, requests, {}, {}, [(at_us * US, times) for at_us, times in looks])
    return analyse(Recording("select", SCENES["steady"], played, events, 0)).stretches[number]


def shares_us(found: list[Stretch], owner: Owner) -> dict[Why, int]:
    """Return microseconds by cause."""
    total: dict[Why, int] = {}
    for one in found:
        if one.owner is owner and one.ns:
            total[one.why] = total.get(one.why, 0) + one.ns // US
    return total


def test_a_reply_that_its_thread_sends_late_is_put_down_to_the_core_only_where_the_kernel_counted_it() -> None:
    events = [noted(What.OPEN, 0, 0), noted(What.RECEIVE, 100, 110)]
    requests = [asked(1, 50, 5_000)]
    assert shares_us(stretches(events, requests, []), Owner.REPLY) == {Why.UNKNOWN: 4_890}
    looked = [(5_010, {THREAD: (4_000 * US, 0)})]
    assert shares_us(stretches(events, requests, looked), Owner.REPLY) == {Why.CORE: 4_000, Why.UNKNOWN: 890}
    others = [(5_010, {THREAD + 1: (4_000 * US, 0)})]
    assert shares_us(stretches(events, requests, others), Owner.REPLY) == {Why.UNKNOWN: 4_890}


def test_run_delay_that_is_read_too_late_for_its_gap_is_still_counted_once_in_the_wait() -> None:
    """Client 2 waits while the thread has no core, then serves client 1; the delay is read only after that."""
    first, second = noted(What.RECEIVE, 1_600, 1_700, (0, 1_400)), noted(What.RECEIVE, 1_750, 1_760, (1_400, 1_400), 2)
    opens = [noted(What.OPEN, 0, 0), noted(What.OPEN, 0, 0, conversation=2)]
    requests = [asked(1, 50, 1_720), asked(2, 50, 1_780)]
    found = stretches([*opens, first, second], requests, [], 1)
    queue = shares_us(found, Owner.QUEUE)
    assert queue == {Why.CORE: 1_400, Why.UNKNOWN: 199, Why.TURN: 100}
    undelayed = [replace(one, began_delay_ns=0, ended_delay_ns=0) for one in (first, second)]
    assert Why.CORE not in shares_us(stretches([*opens, *undelayed], requests, [], 1), Owner.QUEUE)
