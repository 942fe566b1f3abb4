// Draws one model as an SVG text: a lane for each busy client, one for the patient ones, one for the processor.
// Colour says who is waited for, pattern says how. The same function draws for the page and for the files.
const DATA = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#8a94a0", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c7a00", "#4b5563"];
const INK = "#1d2733", MUTED = "#526070", GRID = "#e4e9ef", GREY = "#8a94a0";
const colour = (who) => COLOURS[who] ?? GREY;
const escaped = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const shownMs = (us) => us >= 10000 ? `${Math.round(us / 1000)} ms` : us >= 100 ? `${(us / 1000).toFixed(1)} ms` : `${us.toFixed(0)} us`;

const LANE = 15, FOLD = 21, CPU = 7, GAP = 2, LEAST_PX = 2, BIN_PX = 3;

// A pattern of a colour; `how` is its name. Every SVG carries those it uses.
const PATTERNS = {
  lock: (c) => [6, 6, `<rect width="6" height="6" fill="#fff"/><path d="M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2" stroke="${c}" stroke-width="1.9"/>`],
  held: (c) => [5, 6, `<rect width="5" height="6" fill="${c}" fill-opacity=".16"/><path d="M1,0 v6" stroke="${c}" stroke-width="1.2"/>`],
  store: (c) => [6, 6, `<rect width="6" height="6" fill="${c}" fill-opacity=".14"/><circle cx="3" cy="3" r="1.5" fill="${c}"/>`],
  blocked: (c) => [6, 4, `<rect width="6" height="4" fill="${c}" fill-opacity=".3"/><path d="M0,1 h6" stroke="${c}" stroke-width="1.6"/>`],
  start: (c) => [6, 6, `<rect width="6" height="6" fill="#fff"/><path d="M0,3 h6 M3,0 v6" stroke="${c}" stroke-width=".9"/>`],
  client: (c) => [8, 8, `<rect width="8" height="8" fill="#fff"/><path d="M2,1 l3,3 l-3,3" fill="none" stroke="${c}" stroke-width="1.4"/>`],
  off: (c) => [7, 7, `<rect width="7" height="7" fill="#fff"/><path d="M1,1 l5,5 M6,1 l-5,5" stroke="${c}" stroke-width="1.1"/>`],
};
const patternId = (how, who, model) => `p-${how}-${who}-${model.name}`;

// How a part is filled: [pattern or "", opacity, whose colour]. Own time is solid, waiting is light.
const looks = ([owner, why, who], client) => {
  if (owner === "served") return ["", 1, client];
  if (owner === "store" || owner === "blocked") return [owner, 1, client];
  if (owner === "unsent") return ["", .12, client];
  if (owner === "client") return ["client", 1, client];
  if (why === "turn") return ["", .36, who];
  if (why === "core") return ["lock", 1, 0];
  if (PATTERNS[why]) return [why, 1, why === "off" ? 0 : why === "start" ? client : who];
  return ["", .3, 0];
};

const clientsOf = (busy) => DATA.clients.filter((one) => one.busy === busy);
const patientNumbers = () => clientsOf(false).map((one) => one.number);
const nameOf = (number) => DATA.clients.find((one) => one.number === number)?.name ?? String(number);

// The lanes of a model: [{label, y, height, clients}], top down, and the y at which the processor begins. tall: for few.
const lanesOf = (open, tall) => {
  let y = 2;
  const lanes = [], lane = tall ? 1.6 * LANE : LANE;
  const add = (label, height, clients) => { lanes.push({ label, y, height, clients }); y += height + GAP; };
  for (const one of clientsOf(true)) add(nameOf(one.number), lane, [one.number]);
  const patient = patientNumbers();
  if (open) for (const number of patient) add(nameOf(number), lane, [number]);
  else if (patient.length) {
    const run = patient.at(-1) - patient[0] === patient.length - 1 && patient.length > 1;
    add(run ? `${patient[0]}-${patient.at(-1)}` : patient.map(nameOf).join(" "), lanes.length ? FOLD : Math.min(8 * patient.length, 2 * FOLD), patient);
  }
  return { lanes, cpu: y + GAP };
};

const processesOf = (model) => [...new Set(model.calls.map((call) => call[0]))];
const heightOf = (model, open, tall) => lanesOf(open, tall).cpu + (open ? processesOf(model).length : 1) * (CPU + 1) + 5;

// A picture is in pixels: its place of the lanes is [left, left + plot).
const frameOf = (width, narrow) => {
  const left = narrow ? 50 : 132, right = narrow ? 4 : 232;
  return { width, narrow, left, plot: width - left - right, top: narrow ? 34 : 0 };
};
const placeOf = (frame, view) => (us) => frame.left + (us - view.from) / (view.to - view.from) * frame.plot;

const strip = (model, frame, view, open, number, tall = false) => {
  const used = new Set(), out = [], x = placeOf(frame, view), { lanes, cpu } = lanesOf(open, tall);
  const fill = (how, who) => { if (!how) return colour(who); used.add(`${how} ${who}`); return `url(#${patternId(how, who, model)})`; };
  const right = frame.left + frame.plot, height = frame.top + heightOf(model, open, tall);
  for (const lane of lanes) {
    out.push(`<text x="${frame.left - 8}" y="${frame.top + lane.y + lane.height / 2 + 4}" text-anchor="end" font-size="12" fill="${MUTED}">${lane.label}</text>`);
    const each = lane.height / lane.clients.length;
    lane.clients.forEach((client, row) => {
      const y = frame.top + lane.y + row * each, h = each - (lane.clients.length > 1 ? 1 : 0);
      out.push(`<path d="M${frame.left},${y + h - .5} h${frame.plot}" stroke="${GRID}"/>`);
      out.push(laneParts(model, client, x, y, h, frame.left, right, fill));
    });
  }
  out.push(`<text x="${frame.left - 8}" y="${frame.top + cpu + CPU}" text-anchor="end" font-size="12" fill="${MUTED}">${DATA.flight ? "loop" : "cpu"}</text>`);
  const processes = open ? processesOf(model).map((one) => [one]) : [processesOf(model)];
  processes.forEach((some, row) => out.push(processor(model, some, view, frame, frame.top + cpu + row * (CPU + 1))));
  const [said, reason] = model.label, bold = `font-size="13" font-weight="600" fill="${INK}"`;
  const name = `<g class="name" tabindex="0" role="button" aria-expanded="${open}" aria-label="${model.name}: open or close">` +
    `<rect x="0" y="${frame.narrow ? 0 : 2}" width="${frame.narrow ? 100 : 96}" height="20" fill="#fff" fill-opacity="0"/>` +
    `<text x="0" y="${frame.narrow ? 14 : 15}" ${bold}>${model.name}</text>` +
    (number && number < 10 && !frame.narrow ? `<text x="0" y="29" font-size="12" fill="${GREY}">${open ? "&#9662;" : "&#9656;"} key ${number}</text>` : "") + "</g>";
  const words = frame.narrow
    ? `<text x="0" y="29" font-size="12" fill="${MUTED}"><tspan font-weight="600" fill="${INK}">${escaped(said)}</tspan> ${escaped(reason)}</text>`
    : `<text x="${right + 10}" y="16" ${bold}>${escaped(said)}</text><text x="${right + 10}" y="32" font-size="12" fill="${MUTED}">${escaped(reason)}</text>`;
  const defs = [...used].map((one) => {
    const [how, who] = one.split(" "), [w, h, content] = PATTERNS[how](colour(+who));
    return `<pattern id="${patternId(how, who, model)}" width="${w}" height="${h}" patternUnits="userSpaceOnUse">${content}</pattern>`;
  }).join("");
  return { height, defs, content: out.join("") + name + words };
};

// The parts of one client's requests. What is narrower than LEAST_PX gets a mark as wide, or is counted in a bin.
const laneParts = (model, client, x, y, h, left, right, fill) => {
  const out = [], bins = new Map();
  model.requests.forEach((request, index) => {
    if (request.client !== client || x(request.ended_us) < left || x(request.began_us) > right) return;
    request.parts.forEach((part, place) => {
      const from = Math.max(x(part[3]), left), to = Math.min(x(part[4]), right);
      if (to < left || from > right) return;
      const served = part[0] === "served";
      if (to - from < LEAST_PX && !served) { if (to - from < .4) return; }
      else if (to - from < LEAST_PX) {
        const bin = Math.floor(from / BIN_PX);
        bins.set(bin, [...(bins.get(bin) ?? []), [index, place, from]]);
        return;
      }
      const [how, opacity, who] = looks(part, client), at = `data-r="${index}" data-p="${place}"`;
      out.push(`<rect ${at} x="${from.toFixed(1)}" y="${y}" width="${(to - from).toFixed(1)}" height="${h}" fill="${fill(how, who)}" fill-opacity="${opacity}"/>`);
      out.push(shares(part, from, to, y, h, at, fill), words(request, part, from, to, y, h));
    });
    const sent = x(request.began_us);
    if (sent >= left && sent <= right) out.push(`<path d="M${sent.toFixed(1)},${y} v${Math.max(h * .3, 2)}" stroke="${colour(client)}" stroke-width="1.2"/>`);
  });
  for (const found of bins.values()) {
    const [index, place, from] = found[0], tall = found.length === 1 ? .8 : 1;
    out.push(`<rect data-r="${index}" data-p="${place}" data-n="${found.length}" x="${from.toFixed(1)}" y="${y + h * (1 - tall)}" width="${found.length === 1 ? LEAST_PX : BIN_PX}" height="${h * tall}" fill="${colour(client)}"/>`);
  }
  return out.join("");
};

// A call that was interrupted: how much of it, not when, is known; it is the height of the hatched part.
const shares = (part, from, to, y, h, at, fill) => {
  let above = y;
  return (part[5] ?? []).map(([owner, us, who]) => {
    const tall = h * Math.min(us / (part[4] - part[3]), 1);
    if (tall < .6) return "";
    const how = owner === "stopped" ? "off" : "lock";
    above += tall;
    return `<rect ${at} x="${from.toFixed(1)}" y="${(above - tall).toFixed(1)}" width="${(to - from).toFixed(1)}" height="${tall.toFixed(1)}" fill="${fill(how, owner === "lock" ? who : 0)}"/>`;
  }).join("");
};

// Direct labels, where there is room for them: white on what is solid, with a halo elsewhere.
const SAID = { store: "in the store", unsent: "half a line has arrived", client: "does not read" };
const words = (request, part, from, to, y, h) => {
  if (h < 13) return "";
  const [owner, why, who] = part, own = owner === "served" || owner === "blocked";
  const waits = { turn: `waits for client ${who}`, held: `client ${who} keeps its place`, lock: "waits for the lock", start: "its process is made" };
  const text = own ? request.asks : SAID[owner] ?? waits[why];
  if (!text || to - from < text.length * 6.6 + 10) return "";
  const lacked = (part[5] ?? []).reduce((sum, [, us]) => sum + us, 0);
  const solid = owner === "served" && lacked < .1 * (part[4] - part[3]);
  const ink = solid ? 'fill="#fff"' : `fill="${INK}" stroke="#fff" stroke-width="3.5" paint-order="stroke" stroke-linejoin="round"`;
  return `<text pointer-events="none" x="${(from + 5).toFixed(1)}" y="${y + h / 2 + 4}" font-size="12" ${ink}>${escaped(text)}</text>`;
};

// Who has the processor: for each bin the share of each client, stacked.
const processor = (model, processes, view, frame, y) => {
  const out = [], x = placeOf(frame, view), per = (view.to - view.from) / frame.plot * BIN_PX;
  const bins = Math.ceil(frame.plot / BIN_PX), had = Array.from({ length: bins }, () => new Map());
  const room = Math.min(processes.length, DATA.cores);
  for (const [process, , client, from, to, cpu] of model.calls) {
    if (!processes.includes(process) || to < view.from || from > view.to) continue;
    const share = cpu / Math.max(to - from, .1);
    const first = Math.max(Math.floor((from - view.from) / per), 0), last = Math.min(Math.floor((to - view.from) / per), bins - 1);
    for (let bin = first; bin <= last; bin++) {
      const start = view.from + bin * per, inside = Math.min(to, start + per) - Math.max(from, start);
      had[bin].set(client, (had[bin].get(client) ?? 0) + Math.max(inside, 0) * share / per);
    }
  }
  out.push(`<g shape-rendering="crispEdges"><rect x="${frame.left}" y="${y}" width="${frame.plot}" height="${CPU}" fill="#eef1f4"/>`);
  had.forEach((shares, bin) => {
    let base = y + CPU;
    for (const [client, share] of [...shares].sort((a, b) => a[0] - b[0])) {
      const tall = Math.min(share / room, 1) * CPU;
      if (tall < .25) continue;
      base -= tall;
      out.push(`<rect x="${(frame.left + bin * BIN_PX).toFixed(1)}" y="${base.toFixed(1)}" width="${BIN_PX}" height="${tall.toFixed(1)}" fill="${colour(client)}"/>`);
    }
  });
  return `${out.join("")}</g>`;
};

// The common axis.
const axis = (frame, view) => {
  const x = placeOf(frame, view), span = view.to - view.from, most = frame.plot / 70;
  const step = [100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5].find((one) => span / one <= most) ?? 1e6;
  const out = [];
  for (let us = Math.ceil(view.from / step) * step; us <= view.to; us += step) {
    const text = step >= 1000 ? `${us / 1000}` : (us / 1000).toFixed(1);
    out.push(`<path d="M${x(us).toFixed(1)},16 v5" stroke="${MUTED}"/><text x="${x(us).toFixed(1)}" y="12" text-anchor="middle" font-size="12" fill="${MUTED}">${text}</text>`);
  }
  out.push(`<text x="${frame.left - 8}" y="12" text-anchor="end" font-size="12" fill="${MUTED}">ms</text><path d="M${frame.left},20.5 h${frame.plot}" stroke="${GREY}"/>`);
  return { height: 22, defs: "", content: out.join("") };
};

const asSvg = ({ height, defs, content }, frame, label) =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${frame.width} ${height}" width="${frame.width}" height="${height}" role="img" aria-label="${escaped(label)}" font-family="system-ui, 'DejaVu Sans', sans-serif"><defs>${defs}</defs>${content}</svg>`;
