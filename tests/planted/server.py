"""`python server.py PORT BUG` serves KV/1.0 with one bug, `python server.py` lists the bugs."""

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from reference_server import State, running

from planted import answers, codes, counters, endings, framing, sharing, values
from planted.bug import BUGS

__all__ = ["BUGS", "answers", "codes", "counters", "endings", "framing", "sharing", "values"]

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("\n".join(BUGS))
    bug = BUGS[sys.argv[2]]
    with running(bug.serve, State(bug.form), threads=bug.threads, port=int(sys.argv[1])):
        time.sleep(600)
