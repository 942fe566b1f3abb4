"""Installs the dissector, and a profile with columns and colours, in the folders that Wireshark reads."""

import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

PROFILE: Final = "KV-1.0"
COLUMNS: Final = (
    ("No.", "%m", 52),
    ("Time", "%t", 104),
    ("From port", "%uS", 74),
    ("To port", "%uD", 62),
    ("Command", "%Cus:kv.command:0:R", 80),
    ("Code", "%Cus:kv.code:0:R", 46),
    ("Reply after", "%Cus:kv.time:0:R", 104),
    ("Answered in", "%Cus:kv.response_in:0:R", 88),
    ("Info", "%i", 620),
)
"""Title, format and width in pixels. Info comes last because it is the widest: a narrow window cuts only this one."""
COLOURS: Final = (
    ("KV/1.0 reset or failed", "kv.expert.reset || kv.expert.failed || kv.expert.closed", "#ffffff", "#a40000"),
    ("KV/1.0 wrong version or command", "kv.expert.version || kv.expert.command", "#12272e", "#fce94f"),
    ("KV/1.0 refused", "kv.code >= 400 && kv.code != 404", "#12272e", "#fcaf3e"),
    ("KV/1.0 not found", "kv.code == 404", "#12272e", "#eeeeec"),
    ("TCP again, late or missing", "tcp.analysis.flags && !tcp.analysis.window_update", "#f57900", "#12272e"),
    ("TCP reset", "tcp.flags.reset == 1", "#ffffff", "#cc0000"),
    ("TCP begin and end", "tcp.flags.syn == 1 || tcp.flags.fin == 1", "#12272e", "#c4c4c4"),
    ("KV/1.0 reply", "kv.reply", "#12272e", "#d8f0d8"),
    ("KV/1.0 request", "kv.request", "#12272e", "#daeeff"),
)
"""Name, display filter, foreground and background. Wireshark uses the first rule that matches."""


def dissector() -> Path:
    """Return the path of the dissector's file."""
    return Path(str(files("kvss_gevent.wire_tools") / "kv.lua"))


def folders() -> tuple[Path, Path]:
    """Return the user's folder for plugins and the folder of the profile, as Wireshark defines them."""
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA", Path.home())) / "Wireshark"
        return base / "plugins", base / "profiles" / PROFILE
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "wireshark"
    return Path.home() / ".local/lib/wireshark/plugins", config / "profiles" / PROFILE


def install() -> list[Path]:
    """Write the files, replace older ones, and return their paths. Raises OSError."""
    plugins, profile = folders()
    columns = ", ".join(f'"{title}", "{form}"' for title, form, _ in COLUMNS)
    # Wireshark keeps the widths in another file. There, a column that shows a field has the field's name alone.
    widths = ", ".join(f"{form.removesuffix(':0:R')}, {width}" for _, form, width in COLUMNS)
    colours = "".join(
        f"@{name}@{rule}@[{_rgb(background)}][{_rgb(foreground)}]\n" for name, rule, foreground, background in COLOURS
    )
    texts = {
        plugins / "kv.lua": dissector().read_text(encoding="utf-8"),
        profile / "preferences": f"gui.column.format: {columns}\n",
        profile / "colorfilters": colours,
        profile / "recent": f"column.width: {widths}\n",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts)


def _rgb(colour: str) -> str:
    """Return a colour as Wireshark writes it: three 16-bit numbers."""
    return ",".join(str(int(colour[at : at + 2], 16) * 257) for at in (1, 3, 5))
