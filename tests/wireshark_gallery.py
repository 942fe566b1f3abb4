"""Makes the pictures of docs/course/wire-sheet.md anew: `python -m tests.wireshark_gallery docs/wireshark`.

Needs Debian's wireshark, xvfb, xdotool and imagemagick. Wireshark gets a home of its own, with what
`kvss wireshark install` puts there and nothing else.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kvss_gevent.wire_tools.install import install

CAPTURES = Path(__file__).parent.parent / "docs" / "captures"
WIDTH, HEIGHT = 1280, 640
START_LIMIT_S = 40.0
RECENT = f"""\
gui.geometry_main_x: 0
gui.geometry_main_y: 0
gui.geometry_main_width: {WIDTH}
gui.geometry_main_height: {HEIGHT}
gui.geometry_main_maximized: FALSE
gui.geometry_main_upper_pane: 300
gui.geometry_main_lower_pane: 760
"""
TREE_LINE_PX, TREE_TOP_PX, TREE_ARROW_PX = 15, 364, 11
PICTURES = (
    ("dialogue", "", 9, 5),
    ("nagle", "", 12, 5),
    ("pipeline", "kv", 4, 5),
    ("reset", "", 6, 5),
)
"""Capture, display filter, the frame that is selected, and which line of its tree is opened."""


def main(directory: Path) -> None:
    """Show each capture in Wireshark on a screen that nobody sees, and photograph it."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HOME": home, "XDG_CONFIG_HOME": f"{home}/.config", "XDG_RUNTIME_DIR": home, "LC_ALL": "C.UTF-8"}
        install()
        (Path(home) / ".config/wireshark/recent_common").write_text(RECENT)
        for name, rule, frame, line in PICTURES:
            photograph(CAPTURES / f"{name}.pcapng", rule, frame, line, directory / f"{name}.png")


def photograph(capture: Path, rule: str, frame: int, line: int, picture: Path) -> None:
    """Write one picture of Wireshark's window with a frame selected and a line of its tree opened."""
    read_end, write_end = os.pipe()
    screen = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"]
    with subprocess.Popen(screen, pass_fds=[write_end], stderr=subprocess.DEVNULL) as server:
        try:
            os.environ["DISPLAY"] = f":{os.read(read_end, 16).decode().strip()}"
            command = ["wireshark", "-C", "KV-1.0", "-r", str(capture), "-g", str(frame)]
            with subprocess.Popen([*command, *(["-Y", rule] if rule else [])], stderr=subprocess.DEVNULL) as wireshark:
                try:
                    run(
                        "timeout",
                        str(START_LIMIT_S),
                        "xdotool",
                        "search",
                        "--sync",
                        "--onlyvisible",
                        "--name",
                        capture.name,
                    )
                    time.sleep(4)  # the list fills, and the layout settles
                    run(
                        "xdotool",
                        "mousemove",
                        str(TREE_ARROW_PX),
                        str(TREE_TOP_PX + (line - 1) * TREE_LINE_PX),
                        "click",
                        "1",
                    )
                    run("xdotool", "mousemove", str(WIDTH - 1), str(HEIGHT - 1))
                    time.sleep(1)
                    run("import", "-window", "root", "-strip", "+dither", "-colors", "64", f"png8:{picture}")
                finally:
                    wireshark.terminate()
        finally:
            server.terminate()
            os.close(read_end)
            os.close(write_end)
    print(f"{picture}: {picture.stat().st_size // 1024} KiB")


def run(*words: str) -> None:
    """Run a program that must do well."""
    subprocess.run(words, check=True, timeout=START_LIMIT_S + 10, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
