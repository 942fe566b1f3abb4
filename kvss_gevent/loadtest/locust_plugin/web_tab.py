"""The tab "KVSS latency" in Locust's web page, and the form's answer to bad options. Figures come from results.py."""

import json
from collections.abc import Iterator
from typing import Any

from kvss_gevent.loadtest.engine import preflight
from kvss_gevent.loadtest.engine.recorder import LAG, RESPONSE, SERVICE, Tally
from kvss_gevent.loadtest.locust_plugin.coordinator import Coordinator
from kvss_gevent.loadtest.options import read_options, texts_of
from kvss_gevent.loadtest.report import results
from kvss_gevent.loadtest.report.figures import PERCENTILES, figures
from kvss_gevent.loadtest.report.verdict import Finding, trusted
from kvss_gevent.settings.fail import Fail

KEY = "kvss-latency"
_HEADS = {True: "these figures can be trusted", False: "do not trust every figure"}
_COLUMNS = {"name": "", "count": "Requests", **{name: name.replace("_us", " (us)") for name in PERCENTILES}}


def install(web_ui: Any, coordinator: Coordinator) -> None:
    """Add the tab, and a check before each start that answers as Locust's own checks do."""
    columns = {**_COLUMNS, "max_us": "max (us)"}
    structure = [{"key": key.replace(".", "_"), "title": title} for key, title in columns.items()]
    web_ui.template_args["extended_tabs"] = [{"title": "KVSS latency", "key": KEY}]
    web_ui.template_args["extended_tables"] = [{"key": KEY, "structure": structure}]
    base = web_ui.environment.parsed_options.web_base_path or ""

    @web_ui.app.before_request  # type: ignore[untyped-decorator]
    def check_start() -> Any:
        from flask import jsonify, request

        if request.method != "POST" or request.path != f"{base}/swarm":
            return None
        problem = check_form(coordinator, request.form.to_dict())
        return jsonify({"success": False, "message": problem}) if problem else None

    @web_ui.app.after_request  # type: ignore[untyped-decorator]
    def add_figures(response: Any) -> Any:
        from flask import request

        if request.path == f"{base}/stats/requests" and response.is_json:
            figures = {"key": KEY, "data": list(rows(coordinator))}
            response.set_data(json.dumps({**response.json, "extended_stats": [figures]}))
        return response


def check_form(coordinator: Coordinator, form: dict[str, str]) -> str:
    """Return what is wrong with a start form: an option, the host, or a server that is not there; else nothing."""
    texts = texts_of(coordinator.environment.parsed_options)
    texts.update({name.removeprefix("kv_"): text for name, text in form.items() if name.startswith("kv_")})
    try:
        read_options(texts)
        preflight.check_server(preflight.read_address(form.get("host") or coordinator.host()))
    except ValueError as error:
        return str(error)
    except Fail as fail:
        return f"{fail.cause}: {fail.remedy}"
    return ""


def rows(coordinator: Coordinator) -> Iterator[dict[str, Any]]:
    """Yield the table's rows: the verdict as far as it can be told, the last ten seconds, the whole by command.

    Locust's page sorts rows by their first column, so that they are numbered.
    """
    for number, row in enumerate(_rows(coordinator), 1):
        yield {**row, "name": f"{number:02} {row['name']}"}


def _rows(coordinator: Coordinator) -> Iterator[dict[str, Any]]:
    whole = coordinator.collector.whole
    for finding in findings(coordinator):
        yield {"name": finding}
    yield from _kinds(", last 10 s", coordinator.collector.recent())
    yield from _kinds(", whole window", whole)
    for kind, command, outcome in sorted(whole.counts):
        if kind == RESPONSE:
            yield _row(f"{command} {outcome}", figures(whole.counts[kind, command, outcome]))


def findings(coordinator: Coordinator) -> list[str]:
    """Return the verdict as sentences: the finished run's, or a provisional one while the run goes on."""
    if coordinator.results is not None:
        verdict = coordinator.results["verdict"]
        statements = [Finding(**one) for one in verdict["findings"]]
        head = f"Verdict: {_HEADS[verdict['trusted']]}"
    elif not coordinator.finishing:
        statements = results.provisional(coordinator.collector, coordinator.options.open_loop, coordinator.resets)
        head = f"Verdict so far: {_HEADS[trusted(statements)] if statements else 'nothing measured yet'}"
        head += "; the run goes on"
    else:
        return []
    return [head, *(("ok: " if one.ok else "NOT: ") + one.text for one in statements)]


def _kinds(what: str, part: Tally) -> Iterator[dict[str, Any]]:
    for kind in (RESPONSE, SERVICE, LAG):
        histogram = part.together(kind)
        if histogram.counts:
            yield _row(kind + what, figures(histogram))


def _row(name: str, figures: dict[str, float]) -> dict[str, Any]:
    # A dot in a key would be read as a path by the page.
    shown = {key: value for key, value in figures.items() if key not in ("at_least", "few")}
    return {"name": name, **{key.replace(".", "_"): value for key, value in shown.items()}}


__all__ = ["KEY", "check_form", "install", "rows"]
