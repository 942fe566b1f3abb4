"""`kvss show`: plays a small scene against the concurrency models, and draws on one page who waits for whom."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from kvss_gevent import models
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.named_files import refuse_files_of_others
from kvss_gevent.trace.analysis.sentences import sentence
from kvss_gevent.trace.flight import FlightError, read_flight
from kvss_gevent.trace.page import flight_page, scene_files
from kvss_gevent.trace.page.data import warning
from kvss_gevent.trace.scenes.catalogue import SCENES

EPILOG = """\
Without a scene it lists them. For a scene it writes DIR/SCENE.html, a page that
opens offline, and DIR/SCENE.trace.json, which https://ui.perfetto.dev opens.
It needs Linux and takes about a second for each model.

examples:
  kvss show burn                             one handler computes
  kvss show stall --models gevent,asyncio    two models side by side
  kvss show pool --out /tmp/pool
  kvss show kvss-flight-20260105-101500-4711.json
      what kvss serve --flight-recorder wrote

exit codes: 0 shown, 1 a model could not be recorded, 2 wrong usage, 3 a model's
library is not installed
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `kvss show`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "scene", nargs="?", metavar="SCENE|FILE", help=f"a flight recording, or one of {', '.join(SCENES)}"
    )
    parser.add_argument("--models", metavar="A,B,...", help="models to show (all that are installed; see kvss models)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("kvss-show"), help="folder for the files (kvss-show)"
    )


def run(args: Namespace) -> int:
    """Record and analyse a scene and write its page; returns the exit code."""
    if args.scene is None:
        for scene in SCENES.values():
            print(f"{scene.name:8} {scene.title}: {scene.description}")
        return Exit.OK
    if args.scene not in SCENES and (set(args.scene) & set("/.") or Path(args.scene).exists()):
        return _show_flight(Path(args.scene), args.out)
    if args.scene not in SCENES:
        raise Fail(f"there is no scene {args.scene!r}", f"Give one of {', '.join(SCENES)}.")
    if sys.platform != "linux":
        raise Fail("it reads clocks of threads, which only Linux has", "Run it on Linux, or in a container.")
    scene = SCENES[args.scene]
    names = _models(args.models)
    refuse_files_of_others(args.out, (f"{scene.name}.html",), f"{scene.name}.trace.json")
    _make(args.out)  # before the recordings, which take long
    analyses = []
    for name in names:
        _progress(f"{scene.name}: {name} ...")
        analysis = scene_files.record_and_analyse(scene, name)
        _progress("")
        if isinstance(analysis, str):
            print(f"kvss show: {analysis}", file=sys.stderr)
        else:
            analyses.append(analysis)
    if not analyses:
        raise Fail("no model could be recorded", "The lines above say why.", Exit.FAILED)
    for analysis in sorted(analyses, key=lambda analysis: -analysis.wait_ns):
        print(sentence(analysis))
    try:
        page = scene_files.write(args.out, scene, analyses)
    except OSError as error:
        raise _cannot_write(error) from None
    if said := warning(analyses):
        print(f"kvss show: {said}", file=sys.stderr)
    print(f"Written: {page} and {page.with_suffix('.trace.json').name} for Perfetto.")
    return Exit.OK if len(analyses) == len(names) else Exit.FAILED


def _show_flight(file: Path, directory: Path) -> int:
    """Write the page of a flight recording; returns the exit code. Raises Fail."""
    try:
        flight = read_flight(file)
        if flight.model not in models.MODULES:
            raise FlightError(f"it names an unknown model, {flight.model!r}")
    except FlightError as error:
        raise Fail(f"cannot read {file}: {error}", "Give a file that kvss serve --flight-recorder wrote.") from None
    longest = flight_page.longest_of(flight)
    if not longest:
        raise Fail(f"{file} holds no calls", "The server had received no requests.", Exit.FAILED)
    page = directory / f"{file.stem}.html"
    _make(directory)
    try:
        page.write_text(flight_page.render(flight), encoding="utf-8")
    except OSError as error:
        raise _cannot_write(error) from None
    print(flight_page.said(flight))
    print(f"Written: {page}")
    return Exit.OK


def _models(given: str | None) -> list[str]:
    """Return the chosen models; if none are named, all that are installed. Raises Fail."""
    names = [name.strip() for name in given.split(",")] if given else list(models.MODULES)
    chosen = []
    for name in names:
        if name not in models.MODULES:
            raise Fail(f"there is no model {name!r}", f"Give some of {', '.join(models.MODULES)}.")
        try:
            models.load(name)
        except models.Absent as absent:
            if given:
                raise Fail(absent.cause, absent.remedy, Exit.UNREACHABLE) from None
            print(f"kvss show: left out: {absent.cause}; {absent.remedy}", file=sys.stderr)
        else:
            chosen.append(name)
    return chosen


def _progress(text: str) -> None:
    """On a terminal, show one line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(error) from None


def _cannot_write(error: OSError) -> Fail:
    return Fail(f"cannot write {error.filename}: {error.strerror}", "Give another directory with --out.")
