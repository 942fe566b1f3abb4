"""Whom a client with TLS trusts, as the options of a command say it."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from kvss_gevent.settings.named_files import UnreadableFile, read_bytes

if TYPE_CHECKING:
    import ssl

MAX_CA_BYTES: Final = 4 << 20


def client_context(ca: Path | None, *, insecure: bool) -> "ssl.SSLContext":
    """Return a context that trusts the authorities in a file, or without one those of the system; insecure: anybody.

    Raises ValueError, with a sentence, for a file that cannot be used.
    """
    import ssl  # takes 10 ms, which most programs need not spend

    if insecure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if ca is None:
        return ssl.create_default_context()
    try:
        # The library takes ASCII, and comments may be anything; "" would stand for the authorities of the system.
        text = read_bytes(ca, MAX_CA_BYTES).decode("ascii", "ignore")
        return ssl.create_default_context(cadata=text or "\n")
    except (UnreadableFile, OSError, ValueError) as error:
        why = error if isinstance(error, UnreadableFile) else "it holds no certificate"
        raise ValueError(f"cannot use the authorities in {ca}: {why}") from None
