// What happens at each moment, in words, and how many requests wait: for the step mode and the queue panel.
const WAITS = ["queue", "slice"];
const requestOf = (model, client, us) => model.requests.find((one) => one.client === client && one.began_us <= us && us <= one.ended_us);

// `client 1's BURN 300`, if client 1 had a request at that time.
const whoseAt = (model, client, us) => {
  const request = client ? requestOf(model, client, us) : undefined;
  return request ? `client ${client}'s ${request.asks}` : client ? `client ${client}` : "nobody";
};

const reasonOf = (model, [owner, why, who, from]) => {
  if (owner === "served") return "the server handles it";
  if (owner === "store") return "it waits for the store";
  if (owner === "blocked") return "its handler is in a blocking call: it needs no processor, but its thread can do nothing else";
  if (owner === "unsent") return "half of its line has arrived; the client keeps the rest";
  if (owner === "client") return "its reply has arrived; the client does not read it";
  if (owner === "way") return "it is on its way";
  const other = whoseAt(model, who, from);
  return {
    turn: `it waits because the thread serves ${other}`,
    held: `it waits because client ${who} keeps the place, busy or idle`,
    lock: `its thread waits for the lock that the thread of ${other} has`,
    core: "its thread is ready and has no core",
    start: "its own thread or process is being started",
    loop: "it waits because the thread accepts, receives and sends for others",
    off: "the server's process does not run at all",
  }[why] ?? "the server is about to handle it";
};

// The events of one model in order: [time in us, sentence, number of the request].
const eventsOf = (model) => {
  const found = [];
  if (DATA.flight) {
    return model.requests.map((one, index) => [one.began_us, `${one.asks} of ${one.codes} is handled for ${shownMs(one.ended_us - one.began_us)}.`, index]);
  }
  model.requests.forEach((request, index) => {
    const who = `Client ${request.client}`;
    const waiting = request.parts.find((part) => part[0] !== "way" && part[4] - part[3] > 20);
    found.push([request.began_us, `${who} sends ${request.asks}: ${waiting ? reasonOf(model, waiting) : "the server handles it at once"}.`, index]);
    const taken = request.parts.find((part) => part[0] === "served");
    if (taken && taken[3] - request.began_us > 300) {
      found.push([taken[3], `${who}'s ${request.asks} is handled from now on, ${shownMs(taken[3] - request.began_us)} after it was sent.`, index]);
    }
    found.push([request.ended_us, `${who} has the reply to ${request.asks}, ${shownMs(request.ended_us - request.began_us)} after it asked.`, index]);
  });
  return found.sort((a, b) => a[0] - b[0]);
};

// How many requests wait for each client: [time, Map from client to number] at each change.
const queueOf = (model) => {
  const changes = [];
  for (const request of model.requests) {
    for (const [owner, why, who, from, to] of request.parts) {
      if (WAITS.includes(owner) && to > from) {
        const key = why === "turn" || why === "held" || why === "lock" ? who : 0;
        changes.push([from, key, 1], [to, key, -1]);
      }
    }
  }
  const now = new Map(), steps = [];
  for (const [us, key, by] of changes.sort((a, b) => a[0] - b[0])) {
    now.set(key, (now.get(key) ?? 0) + by);
    steps.push([us, new Map(now)]);
  }
  return steps;
};

// The queue panel of one model: a stack of blocks, one for each request that waits, in the colour of the client it waits for.
const QUEUE_ROW = 9;
const queue = (model, frame, view) => {
  const steps = queueOf(model), x = placeOf(frame, view), out = [], top = frame.narrow ? 18 : 4;
  const most = Math.max(1, ...steps.map(([, now]) => [...now.values()].reduce((a, b) => a + b, 0)));
  const height = top + most * QUEUE_ROW + 8, base = top + most * QUEUE_ROW, right = frame.left + frame.plot;
  steps.forEach(([us, now], place) => {
    const from = Math.max(x(us), frame.left), to = Math.min(x(steps[place + 1]?.[0] ?? us), right);
    if (to - from < .3) return;
    let level = 0;
    for (const [who, number] of [...now].sort((a, b) => a[0] - b[0])) {
      if (!number) continue;
      const tall = number * QUEUE_ROW;
      out.push(`<rect x="${from.toFixed(1)}" y="${base - level - tall}" width="${(to - from).toFixed(1)}" height="${tall - 1}" fill="${colour(who)}" fill-opacity="${who ? .55 : .35}"/>`);
      level += tall;
    }
  });
  out.push(`<path d="M${frame.left},${base + .5} h${frame.plot}" stroke="${GREY}"/>`);
  const title = `<tspan font-weight="600" fill="${INK}">${model.name}</tspan>`;
  out.push(frame.narrow ? `<text x="0" y="12" font-size="12" fill="${MUTED}">${title}: requests that wait</text>`
    : `<text x="0" y="${top + 11}" font-size="13">${title}</text><text x="${right + 10}" y="${top + 11}" font-size="12" fill="${MUTED}">requests that wait, ${most} at most</text>`);
  out.push(`<text x="${frame.left - 8}" y="${top + 9}" text-anchor="end" font-size="12" fill="${MUTED}">${most}</text>`);
  return { height, defs: "", content: out.join("") };
};
