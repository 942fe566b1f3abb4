"""The page of `kvss show` in a real browser, what it says, the trace for Perfetto, and the command."""

import json
import re
from dataclasses import replace
from typing import Any

import browser
import pytest

from kvss_gevent import models
from kvss_gevent.compare import experiments
from kvss_gevent.trace.analysis.causes import Why
from kvss_gevent.trace.analysis.scene_verdict import SceneAnalysis, analyse
from kvss_gevent.trace.analysis.sentences import row_label, sentence
from kvss_gevent.trace.page.chrome_trace import chrome_trace
from kvss_gevent.trace.page.code_lines import WAITS, line_of
from kvss_gevent.trace.page.data import page_data
from kvss_gevent.trace.page.scene_page import render
from kvss_gevent.trace.scenes.catalogue import SCENES
from kvss_gevent.trace.scenes.recording import record

pytestmark = pytest.mark.server
LOOK = """<!doctype html><title>probe</title>
<iframe id=narrow width=390 height=800 src="/index.html"></iframe>
<iframe id=wide width=1280 height=900 src="/index.html"></iframe>
<pre id=result></pre>
<script>
const look = (id) => {
  const frame = document.getElementById(id).contentWindow, page = frame.document, root = page.documentElement;
  const all = (selector) => [...page.querySelectorAll(selector)];
  const press = (name) => page.body.dispatchEvent(new frame.KeyboardEvent("keydown", {key: name, bubbles: true}));
  const seen = {width: root.clientWidth, needs: root.scrollWidth, veiled: page.body.className};
  all(".answers button")[1].click();
  seen.unveiled = page.body.className;
  seen.answers = all(".answers button").map((button) => button.className);
  seen.names = all(".strip").map((strip) => strip.dataset.model);
  seen.text = all(".strip .picture").map((one) => one.textContent);
  seen.sizes = [...new Set(all(".stage text").map((one) => +one.getAttribute("font-size")))];
  seen.overflow = all(".strip text").filter((one) => one.getBoundingClientRect().right > root.clientWidth).length;
  seen.heights = all(".strip").map((one) => one.offsetHeight);
  seen.marks = all(".strip [data-r]").map((one) => +one.getAttribute("width"));
  const before = all(".strip svg")[0].viewBox.baseVal.height;
  press("1");
  seen.opened = all(".strip svg")[0].viewBox.baseVal.height - before;
  seen.files = all(".strip.open .files button").length;
  press("c");
  seen.alone = all(".strip").filter((one) => one.offsetHeight > 0).length;
  press("ArrowRight"); press("ArrowRight");
  seen.step = page.querySelector(".step").textContent;
  press("+");
  seen.zoomed = page.querySelector(".axis").textContent;
  press("Escape");
  seen.reset = all(".strip.open").length;
  const mark = all("[data-r]").find((one) => +one.getAttribute("width") > 40);
  mark.dispatchEvent(new frame.PointerEvent("pointermove", {bubbles: true, clientX: 50, clientY: 300}));
  seen.tip = page.querySelector(".tip").textContent;
  seen.file = frame.eval("pictureOf(DATA.models[0])");
  seen.resources = frame.performance.getEntriesByType("resource").map((one) => one.name)
    .filter((name) => !name.startsWith("data:"));
  return seen;
};
const keys = async () => {
  const frame = document.getElementById("wide").contentWindow, page = frame.document;
  // A browser without a screen draws when it likes: the page gets 60 pictures a second of the browser's own time.
  frame.requestAnimationFrame = (call) => frame.setTimeout(() => call(frame.performance.now()), 16);
  frame.cancelAnimationFrame = frame.clearTimeout;
  const press = (name) => page.body.dispatchEvent(new frame.KeyboardEvent("keydown", {key: name, bubbles: true}));
  const seen = {};
  const after = async (name, key, ms) => {
    if (key) press(key);
    if (ms) await new Promise((done) => setTimeout(done, ms));
    const {cursor, view, playing} = frame.eval("state"), line = page.querySelector(".strip .cursor path");
    seen[name] = {
      cursor, playing, from: view.from, to: view.to, line: line && line.getBoundingClientRect().left,
      button: page.querySelector("[data-do=play]").textContent, step: page.querySelector(".step").textContent,
    };
  };
  press("2");
  await after("begun");
  await after("played", " ", 200);
  await after("played on", "", 200);
  await after("paused", " ");
  await after("paused still", "", 100);
  await after("went on", " ", 100);
  await after("next", "ArrowRight", 100);
  await after("next again", "ArrowRight");
  await after("back", "ArrowLeft");
  await after("nearer", "+");
  await after("nearer still", "=");
  await after("farther", "-");
  await after("whole", "Escape");
  await after("played once", " ", 400);
  await after("reset", "Escape");
  press(" "); press(" ");
  await after("played after a pause", " ", 400);
  press("Escape");
  frame.eval("state.cursor = 1; state.view = {from: DATA.end_us / 2, to: DATA.end_us}");
  await after("played the second half", " ", 100);
  frame.eval("state.cursor = DATA.end_us * .999");
  await after("at its end", "", 200);
  return seen;
};
addEventListener("load", async () => {
  const seen = {narrow: look("narrow"), wide: look("wide"), keys: await keys()};
  document.getElementById("result").textContent = JSON.stringify(seen);
});
</script>
"""


@pytest.fixture(scope="module")
def analyses() -> list[SceneAnalysis]:
    return [analyse(record(SCENES["burn"], model)) for model in ("prefork", "gevent", "threads")]


@pytest.fixture(scope="module")
def looked(analyses: list[SceneAnalysis], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    directory = tmp_path_factory.mktemp("browser")
    page = directory / "index.html"
    page.write_text(render(analyses), encoding="utf-8")
    return browser.probe(page, directory / "profile", LOOK)


def test_the_page_works_in_a_browser_narrow_and_wide(
    analyses: list[SceneAnalysis], looked: tuple[dict[str, Any], list[str]]
) -> None:
    seen, asked = looked
    longest, *others = sorted(analyses, key=lambda analysis: -analysis.wait_ns)
    assert asked == ["/index.html", "/index.html"]
    for one in (seen["narrow"], seen["wide"]):
        assert one["needs"] <= one["width"]
        assert one["overflow"] == 0
        assert (one["veiled"], one["unveiled"]) == ("veiled", "")
        assert one["answers"] == ["", "right", ""]
        assert one["names"] == [longest.model, *(analysis.model for analysis in others)]
        assert row_label(longest)[1] in one["text"][0]
        assert min(one["sizes"]) >= 12
        assert min(one["marks"]) >= 0.4
        assert one["opened"] > 20
        assert (one["files"], one["alone"], one["reset"]) == (2, 1, 0)
        assert re.match(rf"{longest.model}, \d+\.\d ms\. Client \d\b", one["step"])
        assert "client" in one["tip"]
        assert "answered after" in one["tip"]
        assert one["file"].startswith("<svg")
        assert "Python" in one["file"]
        assert one["resources"] == []
    assert max(seen["wide"]["heights"]) * len(models.MODULES) < 800


def test_the_keys_play_step_and_zoom(looked: tuple[dict[str, Any], list[str]]) -> None:
    seen = looked[0]["keys"]
    end_us = seen["begun"]["to"]
    playing, paused = "\u275a\u275a", "\u25b6"
    assert (seen["begun"]["cursor"], seen["begun"]["line"], seen["begun"]["button"]) == (None, None, paused)
    assert 0 < seen["played"]["cursor"] < seen["played on"]["cursor"] < end_us
    assert seen["played"]["line"] < seen["played on"]["line"]
    assert seen["played"]["button"] == playing
    assert seen["paused"]["button"] == paused
    assert seen["paused still"]["cursor"] == seen["paused"]["cursor"]
    assert seen["went on"]["cursor"] > seen["paused"]["cursor"]
    assert (seen["next"]["playing"], seen["next"]["button"]) == (False, paused)
    assert seen["went on"]["cursor"] <= seen["next"]["cursor"] <= seen["next again"]["cursor"]
    assert re.match(r"\w+, \d+\.\d ms\. Client \d\b", seen["next"]["step"])
    assert seen["next again"]["step"] != seen["next"]["step"]
    assert seen["back"]["step"] == seen["next"]["step"]
    widths = [seen[name]["to"] - seen[name]["from"] for name in ("back", "nearer", "nearer still", "farther")]
    assert widths == pytest.approx([end_us, end_us / 2, end_us / 4, end_us / 2])
    for name in ("nearer", "nearer still", "farther"):
        assert seen[name]["from"] <= seen[name]["cursor"] <= seen[name]["to"], "the moment that is told stays in view"
    assert seen["played after a pause"]["cursor"] < 1.5 * seen["played once"]["cursor"], "it plays as fast as before"
    assert seen["played the second half"]["cursor"] > end_us / 2
    assert (seen["reset"]["cursor"], seen["reset"]["button"], seen["reset"]["step"]) == (None, paused, "")
    assert (seen["reset"]["from"], seen["reset"]["to"]) == (0, end_us)
    assert (seen["at its end"]["cursor"], seen["at its end"]["button"]) == (None, paused)


def test_all_twelve_models_stay_below_2_mb(analyses: list[SceneAnalysis]) -> None:
    assert len(render([*analyses] * 4).encode()) < 2_000_000


def test_every_figure_is_in_the_page_and_the_parts_sum_to_the_time(analyses: list[SceneAnalysis]) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', render(analyses))
    assert found
    data = json.loads(found[1])
    assert {model["name"] for model in data["models"]} == {"gevent", "threads", "prefork"}
    waits = [model["wait_us"] for model in data["models"]]
    assert waits == sorted(waits, reverse=True)
    for model in data["models"]:
        for request in model["requests"]:
            parts = request["parts"]
            total = sum(ended - began for _, _, _, began, ended, *_ in parts)
            assert total == pytest.approx(request["ended_us"] - request["began_us"], abs=0.01)
    gevent = next(analysis for analysis in analyses if analysis.model == "gevent")
    assert re.search(r"client \d waited \d+ ms because client 1's BURN 300 had the only greenlet", sentence(gevent))
    assert data["summary"][0] == data["models"][0]["sentence"]


def test_a_wait_for_several_clients_is_told_of_all_of_them(analyses: list[SceneAnalysis]) -> None:
    held = replace(analyses[0], wait_ns=10**8, why=Why.HELD, who=(1, 3))
    assert "because clients 1 and 3, busy or idle, kept a process of the pool until they left" in sentence(held)
    assert "because client 3, busy or idle, kept a process of the pool until it left" in sentence(
        replace(held, who=(3,))
    )
    assert "which the threads of clients 1 and 3 had" in sentence(replace(held, why=Why.LOCK))
    assert "which the thread of client 1 had" in sentence(replace(held, why=Why.LOCK, who=(1,)))


def test_a_page_of_a_busy_machine_says_so_above_its_picture(
    analyses: list[SceneAnalysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for share, said in ((0.02, False), (0.4, True)):
        monkeypatch.setattr("kvss_gevent.trace.page.data.coreless_share", lambda _, share=share: share)
        page = render(analyses)
        assert (
            "without a core for 40% of their time, hatched in grey" in page.partition('<div class="stage">')[0]
        ) is said


def test_a_machine_that_is_late_leaves_no_request_out() -> None:
    scene = replace(SCENES["storm"], length_ms=0)
    asked = record(scene, "select").played.asked
    assert sorted(one.client for one in asked) == [*range(1, 9)]
    assert all(one.codes == {"404": 1} for one in asked)


def test_only_the_begin_of_a_reply_is_taken_for_its_code() -> None:
    scene = SCENES["slow"]
    reader = replace(scene.clients[0], deaf_ms=scene.clients[1].deaf_ms)
    asked = record(replace(scene, clients=(reader,), length_ms=0), "select").played.asked
    assert [set(one.codes) for one in asked] == [{"404"}, {"200"}]


def test_the_trace_is_in_chromes_form(analyses: list[SceneAnalysis]) -> None:
    trace = json.loads(json.dumps(chrome_trace(page_data(analyses))))
    events = trace["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X"}
    assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {
        analysis.model for analysis in analyses
    }
    burns = [event for event in events if event["name"] == "BURN 300"]
    assert len(burns) == 3
    for burn in burns:
        inside = [
            event
            for event in events
            if event["ph"] == "X"
            and (event["pid"], event["tid"]) == (burn["pid"], burn["tid"])
            and burn["ts"] <= event["ts"] <= burn["ts"] + burn["dur"]
        ]
        assert len(inside) > 1
    assert all(event["dur"] >= 0 for event in events if event["ph"] == "X")


@pytest.mark.parametrize("model", models.MODULES)
def test_the_line_at_which_a_model_waits_is_in_its_source(model: str) -> None:
    line = line_of(model)
    assert WAITS[model][1] in line.text
    assert line.excerpt.splitlines()[line.number - line.first].strip() == line.text


def test_every_scene_has_three_answers_and_a_size_that_a_slide_can_show() -> None:
    for scene in SCENES.values():
        assert len(set(scene.answers)) == 3
        assert 0 <= scene.right < 3
        assert scene.question.endswith("?")
        assert 2 <= len(scene.clients) <= 8
        assert scene.length_ms < 1000


def test_the_scenes_that_the_laboratory_links_are_there() -> None:
    linked = {scene for name in experiments.NAMES if (scene := experiments.scene_of(name))}
    assert linked <= set(SCENES)
    assert {"burn", "sleep", "slow", "storm"} <= linked
