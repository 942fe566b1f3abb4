"""The tab "KVSS latency" in Locust's web page, and the --kv options in its start form."""

from typing import Any

from kvss_gevent.loadtest.engine import preflight
from kvss_gevent.loadtest.load_options import read_options, texts_of
from kvss_gevent.loadtest.locust_plugin.run_phases import Coordinator
from kvss_gevent.loadtest.report import live_panel
from kvss_gevent.settings.fail import Fail

KEY = "kvss-latency"
_COLUMN = "KVSS panel"
_SCRIPT = """<script>
// Locust's page can only show a table in an additional tab; a panel with plots replaces this table.
setInterval(() => {
  const head = [...document.querySelectorAll("th")].find((one) => one.textContent.includes("%s"));
  const table = head && head.closest("table");
  if (!table || table.previousElementSibling?.id === "kvss-panel") return;
  const panel = document.createElement("iframe");
  panel.id = "kvss-panel";
  panel.src = "%s";
  panel.style = "border: 0; width: 100%%; height: 60rem; background: transparent";
  table.before(panel);
  table.style.display = "none";
  setInterval(() => {
    const main = panel.contentDocument?.querySelector("main");
    if (main) panel.style.height = `${main.scrollHeight + 40}px`;
  }, 1000);
}, 250);
</script></body>"""


def install(web_ui: Any, coordinator: Coordinator) -> None:
    """Add the tab, and a check of the form before each start, which answers like Locust's own checks. Raises Fail."""
    preflight.check_web_port(web_ui.host, web_ui.port)
    web_ui.template_args["extended_tabs"] = [{"title": "KVSS latency", "key": KEY}]
    web_ui.template_args["extended_tables"] = [{"key": KEY, "structure": [{"key": "name", "title": _COLUMN}]}]
    base = web_ui.environment.parsed_options.web_base_path or ""
    _keep_form(web_ui, coordinator)

    @web_ui.app.route(f"{base}/kvss/panel")  # type: ignore[untyped-decorator]
    @web_ui.auth_required_if_enabled  # type: ignore[untyped-decorator]
    def show_panel() -> Any:
        return live_panel.page(coordinator)

    @web_ui.app.route(f"{base}/kvss/data")  # type: ignore[untyped-decorator]
    @web_ui.auth_required_if_enabled  # type: ignore[untyped-decorator]
    def show_data() -> Any:
        head, findings = live_panel.verdict(coordinator)
        ended = coordinator.collector.whole.requests()
        return {"verdict": head, "findings": [one.text for one in findings], "requests": ended}

    @web_ui.app.before_request  # type: ignore[untyped-decorator]
    def check_start() -> Any:
        from flask import jsonify, request

        if request.method != "POST" or request.path != f"{base}/swarm":
            return None
        problem = check_form(coordinator, request.form.to_dict())
        return jsonify({"success": False, "message": problem}) if problem else None

    @web_ui.app.after_request  # type: ignore[untyped-decorator]
    def add_panel(response: Any) -> Any:
        from flask import request

        if request.path == f"{base}/stats/requests" and response.is_json:
            response.json["extended_stats"] = []
        if request.path == f"{base}/" and response.mimetype == "text/html":
            script = _SCRIPT % (_COLUMN, f"{base}/kvss/panel")
            response.set_data(response.get_data(as_text=True).replace("</body>", script))
        return response


def _keep_form(web_ui: Any, coordinator: Coordinator) -> None:
    """Let the form show the last options, and -t as it was given instead of the time of Locust's own timer."""
    plain_update = web_ui.update_template_args

    def update() -> None:
        plain_update()
        parsed = web_ui.environment.parsed_options
        for name, option in web_ui.template_args["extra_options"].items():
            if name.startswith("kv_"):
                option["default_value"] = getattr(parsed, name, option["default_value"])
        if parsed.run_time:
            web_ui.template_args["run_time"] = f"{coordinator.measure_s:g}s"

    web_ui.update_template_args = update


def check_form(coordinator: Coordinator, form: dict[str, str]) -> str:
    """Return what is wrong with a start form: an option, the host, or a missing server; "" if nothing is."""
    texts = texts_of(coordinator.environment.parsed_options)
    texts.update({name.removeprefix("kv_"): text for name, text in form.items() if name.startswith("kv_")})
    try:
        options = read_options(texts)
        preflight.check_server(preflight.read_address(form.get("host") or coordinator.host()), options)
    except ValueError as error:
        return str(error)
    except Fail as fail:
        return f"{fail.cause}: {fail.remedy}"
    return ""
