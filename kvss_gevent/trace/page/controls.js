// What the reader does: predict, play, step, zoom, open a model, see two side by side, look at one request.
const $ = (selector) => document.querySelector(selector);
const whole = { from: 0, to: DATA.end_us };
const state = { view: { ...whole }, open: new Set(), only: false, cursor: null, playing: false, frame: 0, step: -1 };
const SHOW_S = 12;
const watched = () => DATA.models.filter((model) => state.open.has(model.name));
const current = () => watched()[0] ?? DATA.models[0];

const stage = $(".stage"), tip = $(".tip");
const holders = DATA.models.map((model, index) => {
  const holder = document.createElement("div");
  holder.className = "strip";
  holder.dataset.model = model.name;
  holder.innerHTML = `<div class="picture"></div><div class="files"><span>${escaped(model.idea)}</span><button type="button" data-file="svg">SVG</button><button type="button" data-file="png">PNG</button></div>`;
  $(".strips").append(holder);
  holder.querySelector("[data-file=svg]").addEventListener("click", () => saveSvg(model));
  holder.querySelector("[data-file=png]").addEventListener("click", () => savePng(model));
  return { model, holder, number: index + 1 };
});
const frameNow = () => { const width = $(".strips").clientWidth; return frameOf(width, width < 640); };

const cursorIn = (frame, height) => {
  if (state.cursor === null) return "";
  const x = Math.min(Math.max(placeOf(frame, state.view)(state.cursor), frame.left), frame.left + frame.plot);
  const curtain = state.playing || state.step >= 0 ? `<rect x="${x}" y="${frame.top}" width="${frame.left + frame.plot - x}" height="${height}" fill="#fff" fill-opacity=".8"/>` : "";
  return `${curtain}<path d="M${x.toFixed(1)},${frame.top} v${height}" stroke="${INK}" stroke-width="1"/>`;
};

const draw = () => {
  const frame = frameNow();
  stage.classList.toggle("only", state.only && state.open.size > 0);
  $(".axis").innerHTML = asSvg(axis(frame, state.view), frame, "time in milliseconds");
  for (const { model, holder, number } of holders) {
    const open = state.open.has(model.name), one = strip(model, frame, state.view, open, number, state.only);
    one.content += `<g class="cursor">${cursorIn(frame, one.height - frame.top)}</g>`;
    holder.classList.toggle("open", open);
    holder.querySelector(".picture").innerHTML = asSvg(one, frame, `${model.name}: ${model.sentence}`);
  }
  const shown = watched().length ? watched().slice(0, 2) : [current()];
  $(".queue").innerHTML = DATA.flight ? "" : shown.map((model) => asSvg(queue(model, frame, state.view), frame, `${model.name}: how many requests wait`)).join("");
  $(".code").innerHTML = shown.map(codeOf).join("");
};

const moveCursor = () => {
  const frame = frameNow();
  for (const { holder } of holders) {
    const svg = holder.querySelector("svg");
    svg.querySelector(".cursor").innerHTML = cursorIn(frame, svg.viewBox.baseVal.height - frame.top);
  }
};

const codeOf = (model) => {
  const { file, number, excerpt, first } = model.code;
  const lines = excerpt.split("\n").map((line, index) => {
    const text = `${String(first + index).padStart(4)}  ${escaped(line)}`;
    return first + index === number ? `<mark>${text}</mark>` : text;
  });
  return `<p>${escaped(model.sentence)} A request waits at <code>${file}</code>, line ${number}:</p><pre>${lines.join("\n")}</pre>`;
};

const toggle = (model) => { state.open.has(model.name) ? state.open.delete(model.name) : state.open.add(model.name); state.step = -1; draw(); };

const zoom = (factor, around = state.cursor ?? (state.view.from + state.view.to) / 2) => {
  const span = Math.min(Math.max((state.view.to - state.view.from) * factor, 200), whole.to);
  const share = (around - state.view.from) / (state.view.to - state.view.from);
  const from = Math.min(Math.max(around - span * share, 0), whole.to - span);
  state.view = { from, to: from + span };
  draw();
};

const show = (us) => {
  const span = state.view.to - state.view.from;
  if (us >= state.view.from && us <= state.view.to) return moveCursor();
  const from = Math.min(Math.max(us - span / 2, 0), whole.to - span);
  state.view = { from, to: from + span };
  draw();
};

const step = (by) => {
  const model = current(), events = eventsOf(model);
  setPlaying(false);
  if (state.step < 0 && state.cursor !== null) state.step = events.findIndex((event) => event[0] >= state.cursor) - (by > 0 ? 1 : 0);
  state.step = Math.min(Math.max(state.step + by, 0), events.length - 1);
  const [us, text] = events[state.step];
  state.cursor = us;
  $(".step").innerHTML = `<b>${model.name}, ${(us / 1000).toFixed(1)} ms.</b> ${escaped(text)}`;
  show(us);
};

const setPlaying = (playing) => {
  state.playing = playing;
  cancelAnimationFrame(state.frame);
  $("[data-do=play]").innerHTML = playing ? "&#10074;&#10074;" : "&#9654;";
};

const play = () => {
  setPlaying(!state.playing);
  state.step = -1;
  if (!state.playing) return moveCursor();
  if (state.cursor === null || state.cursor < state.view.from || state.cursor >= state.view.to) state.cursor = state.view.from;
  let last = performance.now();
  const frame = (now) => {
    state.cursor += Math.max(now - last, 0) / 1000 / SHOW_S * (state.view.to - state.view.from);
    last = now;
    const event = eventsOf(current()).findLast((one) => one[0] <= state.cursor);
    if (event) $(".step").innerHTML = `<b>${current().name}, ${(state.cursor / 1000).toFixed(0)} ms.</b> ${escaped(event[1])}`;
    if (state.cursor >= state.view.to) { state.cursor = null; setPlaying(false); }
    else state.frame = requestAnimationFrame(frame);
    moveCursor();
  };
  state.frame = requestAnimationFrame(frame);
};

const reset = () => {
  setPlaying(false);
  Object.assign(state, { view: { ...whole }, cursor: null, step: -1, only: false });
  state.open.clear();
  $(".step").textContent = "";
  draw();
};
const only = () => { state.only = !state.only; draw(); };

const predict = (answer) => {
  if (!document.body.classList.contains("veiled")) return;
  document.body.classList.remove("veiled");
  document.querySelectorAll(".answers button").forEach((button, index) => {
    button.setAttribute("aria-pressed", String(index === answer));
    button.disabled = true;
    button.classList.toggle("right", index === DATA.scene.right);
    button.classList.toggle("wrong", index === answer && answer !== DATA.scene.right);
  });
  $(".skip").remove();
  $(".because").hidden = false;
};

const DO = { play, back: () => step(-1), next: () => step(1), in: () => zoom(.5), out: () => zoom(2), reset, only };
document.querySelectorAll("[data-do]").forEach((button) => button.addEventListener("click", () => DO[button.dataset.do]()));
document.querySelectorAll(".answers button").forEach((button, index) => button.addEventListener("click", () => predict(index)));
$(".skip")?.addEventListener("click", () => predict(-1));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (document.body.classList.contains("veiled")) { if (/^[123]$/.test(event.key)) predict(+event.key - 1); return; }
  const name = event.target.closest?.(".name");
  if (name && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); return toggle(modelOf(name)); }
  if (event.target.tagName === "BUTTON" && event.key === " ") return;
  const act = { " ": play, ArrowRight: () => step(1), ArrowLeft: () => step(-1), "+": DO.in, "=": DO.in, "-": DO.out, Escape: reset, c: only }[event.key];
  if (act) { event.preventDefault(); act(); }
  else if (/^[1-9]$/.test(event.key) && holders[+event.key - 1]) toggle(holders[+event.key - 1].model);
});
const modelOf = (element) => DATA.models.find((model) => model.name === element.closest(".strip").dataset.model);

stage.addEventListener("click", (event) => { const name = event.target.closest(".name"); if (name) toggle(modelOf(name)); });
stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.shiftKey) return; // the page scrolls
  event.preventDefault();
  zoom(event.deltaY + event.deltaX < 0 ? .7 : 1 / .7, timeAt(event));
}, { passive: false });

const timeAt = (event) => {
  const frame = frameNow(), box = $(".strips").getBoundingClientRect();
  return state.view.from + (event.clientX - box.left - frame.left) / frame.plot * (state.view.to - state.view.from);
};

let dragged = null;
stage.addEventListener("pointerdown", (event) => { if (!event.target.closest(".name, button")) dragged = { at: timeAt(event), moved: false }; });
addEventListener("pointerup", () => { dragged = null; });
stage.addEventListener("pointermove", (event) => {
  if (dragged && event.buttons) {
    const by = dragged.at - timeAt(event), span = state.view.to - state.view.from;
    const from = Math.min(Math.max(state.view.from + by, 0), whole.to - span);
    if (Math.abs(from - state.view.from) > span / 500) { state.view = { from, to: from + span }; draw(); }
    return;
  }
  const mark = event.target.closest?.("[data-r]");
  if (!mark) { tip.style.display = "none"; return; }
  tip.innerHTML = tipOf(modelOf(mark), +mark.dataset.r, +mark.dataset.p, +(mark.dataset.n ?? 1));
  tip.style.display = "block";
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18}px`;
});
stage.addEventListener("pointerleave", () => { tip.style.display = "none"; });

const tipOf = (model, index, place, number) => {
  if (DATA.flight) {
    const { asks, codes, bytes, reply_bytes: reply, began_us: from, ended_us: to } = model.requests[index];
    return `<b>${escaped(asks)}</b> of ${codes}${number > 1 ? ` and ${number - 1} more here` : ""}<br>${bytes} bytes, reply ${reply} bytes<br>had the loop for ${shownMs(to - from)}`;
  }
  const request = model.requests[index], part = request.parts[place], { file, text, number: line } = model.code;
  const waits = WAITS.includes(part[0]) ? `<br>It waits at ${file}:${line}<br><code>${escaped(text)}</code>` : "";
  const shared = (part[5] ?? []).map(([owner, us, who]) => `<br>${shownMs(us)} of it without ${owner === "lock" ? `the lock, which ${whoseAt(model, who, part[3])} had` : owner === "core" ? "a core" : "running at all"}`).join("");
  return `<b>client ${request.client}: ${escaped(request.asks)}</b>${number > 1 ? ` and ${number - 1} more here` : ""}<br>` +
    `${request.bytes} bytes, reply ${request.reply_bytes} bytes (${request.codes})<br>` +
    `sent at ${(request.began_us / 1000).toFixed(2)} ms, answered after ${shownMs(request.ended_us - request.began_us)}<br>` +
    `<b>${shownMs(part[4] - part[3])}</b>: ${escaped(reasonOf(model, part))}${shared}${waits}`;
};

document.querySelectorAll(".how span[data-how]").forEach((span) => {
  const [how, who] = span.dataset.how.split(" "), model = { name: "how" };
  const [w, h, content] = how ? PATTERNS[how](colour(+who)) : [1, 1, ""];
  const defs = how ? `<pattern id="${patternId(how, who, model)}${span.textContent.length}" width="${w}" height="${h}" patternUnits="userSpaceOnUse">${content}</pattern>` : "";
  const fill = how ? `url(#${patternId(how, who, model)}${span.textContent.length})` : colour(+who);
  span.insertAdjacentHTML("afterbegin", `<svg viewBox="0 0 34 12"><defs>${defs}</defs><rect width="34" height="12" fill="${fill}" fill-opacity="${span.dataset.light ?? 1}"/></svg>`);
});

// `#shown` opens the page without the question, `#gevent,threads` with these models side by side: for links.
const linked = location.hash.slice(1).split(",").filter((name) => DATA.models.some((model) => model.name === name));
if (linked.length) Object.assign(state, { open: new Set(linked), only: true });
if (linked.length || location.hash === "#shown") predict(-1);
addEventListener("resize", draw);
addEventListener("beforeprint", () => { document.body.classList.remove("veiled"); draw(); });
draw();
