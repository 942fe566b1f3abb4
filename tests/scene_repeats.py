"""Plays scenes again and again and counts the verdicts: `python -m tests.scene_repeats --repeats 20 burn sleep`.

Exit code 1 where a model has more than one verdict in a scene. A verdict is about the model, so it must not change with
what else runs on the machine; each line says for which share of their time requests were without a core.
"""

import argparse
import sys
from collections import Counter

from kvss_gevent import models
from kvss_gevent.trace.analysis.parts import UnpairedError
from kvss_gevent.trace.analysis.scene_verdict import SceneAnalysis, analyse
from kvss_gevent.trace.page.data import coreless_share
from kvss_gevent.trace.scenes.catalogue import SCENES
from kvss_gevent.trace.scenes.player import PlayError
from kvss_gevent.trace.scenes.recording import record


def main() -> int:
    """Print a line for each scene and model; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", default=list(SCENES), help=f"of {', '.join(SCENES)}")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--models", default=",".join(models.MODULES))
    args = parser.parse_args()
    split = False
    for name in args.scenes:
        for model in args.models.split(","):
            analyses: list[SceneAnalysis] = []
            verdicts: Counter[str] = Counter()
            for _ in range(args.repeats):
                try:
                    analyses.append(analyse(record(SCENES[name], model)))
                except (PlayError, UnpairedError) as error:
                    verdicts[str(error)] += 1
                else:
                    verdicts[analyses[-1].verdict.value] += 1
            split |= len(verdicts) > 1
            causes = Counter(analysis.why.value for analysis in analyses).most_common()
            print(
                f"{name:7} {model:13} {_counted(verdicts.most_common()):40} longest wait for: {_counted(causes)}; "
                f"without a core {coreless_share(analyses) if analyses else 0:.0%}",
                flush=True,
            )
    return 1 if split else 0


def _counted(pairs: list[tuple[str, int]]) -> str:
    return ", ".join(f"{what} {count}" for what, count in pairs)


if __name__ == "__main__":
    sys.exit(main())
