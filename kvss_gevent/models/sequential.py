"""One client at a time: accept, talk until it leaves, accept the next. The simplest server there is."""

from kvss_gevent.models.contract import Ground, clients, converse

IDEA = "one client at a time, the others wait to be accepted"
LIMITS = (
    "a client that stays keeps everybody else out",
    "a client that does not read its replies stops the server",
)
LOSES = (
    "stats-connections",
    "stats-after-reset",
    "quit-own",
    "slow-beside-quick",
    "hundred-clients",
    "race-put",
    "race-del",
    "race-own-replies",
    "race-own-keys",
    "race-torn",
    "race-history",
    "deaf-client",
)
SHARED = False


def serve(ground: Ground) -> None:
    """Serve client after client until stopped."""
    service = ground.open_service()
    for sock in clients(ground.listener):
        converse(sock, service)
