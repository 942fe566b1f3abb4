"""Blocks of a capture file in the pcapng format (IETF draft-ietf-opsawg-pcapng), as bytes."""

import struct
from typing import Final

LINKTYPE_RAW: Final = 101
"""Link type: a frame is an IPv4 or IPv6 packet, with no header before it."""
NANOSECONDS: Final = b"\x09"

_SECTION, _INTERFACE, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 6, 0xA
_TLS_KEY_LOG: Final = 0x544C534B
_COMMENT, _NAME, _DESCRIPTION, _RESOLUTION, _APPLICATION = 1, 2, 3, 9, 4
_MAX_FRAME_BYTES: Final = 1 << 18


def section(comment: str) -> bytes:
    """Return the header block of a section; a file has one or more sections."""
    head = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    return _block(_SECTION, head + _options((_COMMENT, comment.encode()), (_APPLICATION, b"kvss tap")))


def interface(name: str, description: str) -> bytes:
    """Return the block of an interface. Packets name it by its number in the section. Times are ns since 1970."""
    options = _options((_NAME, name.encode()), (_DESCRIPTION, description.encode()), (_RESOLUTION, NANOSECONDS))
    return _block(_INTERFACE, struct.pack("<HHI", LINKTYPE_RAW, 0, _MAX_FRAME_BYTES) + options)


def packet(number: int, time_ns: int, frame: bytes) -> bytes:
    """Return the block of a frame; number is that of its interface."""
    size = len(frame)
    head = struct.pack("<IIIII", number, time_ns >> 32, time_ns & 0xFFFFFFFF, size, size)
    return _block(_PACKET, head + frame + b"\0" * (-size % 4))


def secrets(key_log: bytes) -> bytes:
    """Return a block with lines of a TLS key log; with them Wireshark decrypts the packets after this block."""
    body = struct.pack("<II", _TLS_KEY_LOG, len(key_log)) + key_log
    return _block(_SECRETS, body + b"\0" * (-len(key_log) % 4))


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def _options(*options: tuple[int, bytes]) -> bytes:
    parts = [struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4) for code, value in options]
    return b"".join(parts) + struct.pack("<HH", 0, 0)
