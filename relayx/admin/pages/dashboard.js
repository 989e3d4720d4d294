"use strict";
// Shows what /api/v1/events tells. Everything a client may call itself goes in as text, never as
// markup. The token is kept for this tab alone, and sent as a header, never in an address.

const KEY = "relayx.admin_token";
const SPAN = 600;  // seconds that the chart shows
const MOST_EVENTS = 200;
const SIGNS = {empty: "·", ready: "R", busy: "B", reserved: "L"};
const MEANINGS = {empty: "empty", ready: "ready", busy: "busy", reserved: "reserved by a lease"};
const LINK = ["SRT link", "RTT", "Send rate", "Receive rate", "Loss", "Sent again", "Drops", "Latency"];
const SENDABLE = /^[ -~]+$/;  // anything else cannot be sent in a header, and is no token
const WRONG = "That token is not the right one.";
const $ = (id) => document.getElementById(id);

let points = [];
let closing = null;
let attempt = 0;
let stream = null;
let again = 0;

// small things

function make(tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

function amount(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

function rate(bytes) { return `${amount(bytes)}/s`; }

function bits(rate) { return `${amount(rate).slice(0, -1)}bit/s`; }

function time(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  const hours = Math.floor(s / 3600);
  return hours < 48 ? `${hours} h ${Math.floor(s / 60) % 60} min` : `${Math.floor(hours / 24)} d`;
}

function set(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return {...more, ...(token ? {Authorization: `Bearer ${token}`} : {})};
}

function trouble(text) { $("trouble").hidden = !text; set("trouble", text || ""); }

// the stream

async function follow() {
  if (stream) stream.abort();  // there is one, or each event would be told twice
  clearTimeout(again);
  const ours = stream = new AbortController();
  try {
    const answer = await fetch("/api/v1/events", {headers: headers(), signal: ours.signal});
    if (answer.status === 401 || answer.status === 403) { await ask(answer); return; }
    if (!answer.ok) throw new Error((await answer.json()).error);
    attempt = 0;
    trouble("");
    $("entry").hidden = true;
    $("forget").hidden = !sessionStorage.getItem(KEY);
    $("events").replaceChildren();
    await read(answer.body.getReader());
    throw new Error("the gateway has ended the stream");
  } catch (error) {
    if (ours.signal.aborted) return;
    shown("gone", "not connected");
    trouble(`No news from the gateway: ${error.message}. Trying again.`);
    attempt += 1;
    again = setTimeout(follow, Math.min(10000, 500 * 2 ** attempt));
  }
}

async function read(reader) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    rest += decoder.decode(value, {stream: true});
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) told(part);
  }
}

function told(part) {
  let kind = "", data = "";
  for (const line of part.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (kind === "snapshot") show(JSON.parse(data));
  if (kind === "happened") happened(JSON.parse(data));
  if (kind === "history") {
    points = JSON.parse(data).points.map((point) => [Date.parse(point.at) / 1000, point.throughput]);
  }
}

async function ask(answer) {
  const told = await answer.json();
  $("main").hidden = true;
  $("forget").hidden = true;
  shown("gone", "not connected");
  if (told.error_code !== "TOKEN_REFUSED") { trouble(told.error); return; }
  trouble(sessionStorage.getItem(KEY) ? WRONG : "");
  sessionStorage.removeItem(KEY);
  $("entry").hidden = false;
  $("token").focus();
}

// what is shown

function shown(kind, text) { $("state").className = `pill ${kind}`; set("state", text); }

function show(snapshot) {
  const {status} = snapshot;
  $("main").hidden = false;
  shown(status.state, status.state);
  set("about", `version ${status.version}, up ${time(status.uptime)}, configuration ${status.revision}`);
  set("n-fe", `${status.clients.FE.registered} / ${status.clients.FE.most}`);
  set("n-be", `${status.clients.BE.registered} / ${status.clients.BE.most}`);
  set("n-sessions", String(status.sessions.running));
  set("n-leases", String(status.leases));
  set("n-rate", rate(status.throughput));
  set("n-bytes", amount(status.bytes_moved));
  points.push([Date.parse(snapshot.at) / 1000, status.throughput]);
  chart();
  ports(snapshot.ports.items, status.ports);
  rows("s", snapshot.sessions, (session) => session.pairing_id, fillSession, newSession);
  $("brokers").hidden = !status.brokers.length;
  rows("b", {items: status.brokers, total: status.brokers.length}, (broker) => String(broker.frontend.port), fillBroker, newBroker);
  rows("c", snapshot.clients, (client) => `${client.role} ${client.client_id} ${client.registered_at}`, fillClient, newClient);
}

function chart() {
  const last = points[points.length - 1][0];
  points = points.filter(([at]) => at > last - SPAN);
  const span = Math.max(30, last - points[0][0]);
  const peak = Math.max(1, ...points.map(([, value]) => value));
  const spots = points.map(([at, value]) =>
    `${(600 - (last - at) / span * 600).toFixed(1)},${(118 - value / peak * 112).toFixed(1)}`);
  $("curve").setAttribute("points", spots.join(" "));
  const left = spots[0].split(",")[0];
  $("area").setAttribute("points", `${left},120 ${spots.join(" ")} 600,120`);
  set("span", `the last ${time(span)}`);
  set("peak", `up to ${rate(peak === 1 ? 0 : peak)}`);
  $("chart").setAttribute("aria-label",
    `Throughput of the last ${time(span)}: ${rate(points[points.length - 1][1])} now, ${rate(peak)} at most`);
}

const squares = new Map();

function ports(items, counts) {
  const numbers = items.map((port) => port.port).join();
  if ($("ports").dataset.numbers !== numbers) buildPorts(items, numbers);
  for (const port of items) {
    const square = squares.get(port.port);
    const who = [port.service && `service ${port.service}`, port.client_id && `BE ${port.client_id}`,
      port.address && `at ${port.address}`, port.transport === "srt" && "by SRT",
      port.sessions > 1 && `${port.sessions} sessions`].filter(Boolean).join(", ");
    const text = `port ${port.port}, ${port.protocol}: ${MEANINGS[port.state]}${who && `; ${who}`}`;
    if (square.title !== text) {
      square.title = text;
      square.setAttribute("aria-label", text);
      square.textContent = SIGNS[port.state];
      square.className = `port ${port.state}`;
      if (document.activeElement === square) set("port", text);
    }
  }
  for (const state of Object.keys(SIGNS)) {
    const sum = Object.values(counts).reduce((total, count) => total + count[state], 0);
    set(`sum-${state}`, ` ${sum} ${MEANINGS[state]}`);
  }
}

function buildPorts(items, numbers) {
  $("ports").dataset.numbers = numbers;
  $("ports").replaceChildren();
  squares.clear();
  for (const protocol of [...new Set(items.map((port) => port.protocol))].sort()) {
    const of = items.filter((port) => port.protocol === protocol);
    $("ports").append(make("p", `${protocol} ${of[0].port} to ${of[of.length - 1].port}`, "protocol"));
    const grid = make("div", undefined, "grid");
    grid.setAttribute("role", "group");
    grid.setAttribute("aria-label", `${protocol} ports`);
    of.forEach((port, index) => {
      const square = make("button", "", "port");
      square.type = "button";
      square.tabIndex = index ? -1 : 0;
      squares.set(port.port, square);
      grid.append(square);
    });
    grid.addEventListener("keydown", walk);
    grid.addEventListener("focusin", (event) => set("port", event.target.title));
    grid.addEventListener("click", (event) => { if (event.target.title) set("port", event.target.title); });
    $("ports").append(grid);
  }
}

function walk(event) {
  const all = [...event.currentTarget.children];
  const across = all.filter((square) => square.offsetTop === all[0].offsetTop).length;
  const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across};
  const at = all.indexOf(event.target);
  let to = at + (steps[event.key] || 0);
  if (event.key === "Home") to = 0;
  if (event.key === "End") to = all.length - 1;
  if (at < 0 || to === at || !all[to]) return;
  event.preventDefault();
  all[at].tabIndex = -1;
  all[to].tabIndex = 0;
  all[to].focus();
}

function rows(prefix, page, key, fill, build) {
  const body = $(`${prefix}-rows`);
  const had = new Map([...body.children].filter((row) => row.dataset.key).map((row) => [row.dataset.key, row]));
  const kept = new Set(page.items.map(key));
  for (const [name, row] of had) {  // first, since a row that is moved loses the focus
    if (kept.has(name)) continue;
    row.more?.remove();
    row.remove();
  }
  let before = null;
  for (const item of page.items) {
    const name = key(item);
    let row = had.get(name);
    if (!row) { row = build(item); row.dataset.key = name; }
    fill(row, item);
    for (const part of row.more ? [row, row.more] : [row]) {
      const place = before ? before.nextSibling : body.firstChild;
      if (place !== part) body.insertBefore(part, place);
      before = part;
    }
  }
  $(`${prefix}-none`).hidden = page.total > 0;
  const cut = page.total > page.items.length ? `, ${page.items.length} of them shown` : "";
  set(`${prefix}-total`, page.total ? `${page.total}${cut}` : "");
}

function cells(names) {
  const row = document.createElement("tr");
  for (const name of names) {
    const cell = document.createElement("td");
    cell.dataset.name = name;
    row.append(cell);
  }
  return row;
}

function put(cell, text, small, kind) {
  const told = `${text}\n${small || ""}\n${kind || ""}`;
  if (cell.dataset.told === told) return;
  cell.dataset.told = told;
  cell.className = kind || "";
  cell.replaceChildren(text);
  if (small) cell.append(make("small", small));
}

function newSession(session) {
  const row = cells(["Front end", "Back end", "Port", "State", "To the BE", "To the FE", "For", ""]);
  const button = make("button", "Close", "danger");
  button.type = "button";
  button.setAttribute("aria-label", `Close the session of ${end(session.fe)} and ${end(session.be)}`);
  button.addEventListener("click", () => confirmClosing(session));
  row.lastChild.append(button);
  return row;
}

function srt(link) {
  if (!link) return "";
  const drops = link.messages_dropped ? `, ${link.messages_dropped} messages dropped in ${time(link.dropping_seconds)}` : "";
  return `SRT: RTT ${link.rtt_ms.toFixed(1)} ms, loss ${worst(link).toFixed(1)} %${drops}`;
}

function newLinks(session) {
  const row = make("tr", undefined, "links"), cell = make("td"), more = make("details");
  const table = make("table"), head = make("tr"), summary = make("summary", "SRT links");
  const name = `SRT links of ${end(session.fe)} and ${end(session.be)}`;
  cell.colSpan = 8;
  summary.setAttribute("aria-label", name);
  table.setAttribute("aria-label", name);
  for (const text of LINK) {
    const title = make("th", text);
    title.scope = "col";
    head.append(title);
  }
  row.legs = new Map();
  table.append(make("thead"), make("tbody"));
  table.tHead.append(head);
  for (const [who, text] of [["fe", "Front end"], ["be", "Back end"]]) {
    if (!session[who].link) continue;
    const leg = cells(LINK.slice(1)), title = make("th", text);
    title.scope = "row";
    leg.prepend(title);
    table.tBodies[0].append(leg);
    row.legs.set(who, leg);
  }
  more.append(summary, table, make("p", "Sent is from the gateway, received is to it. Loss and rates are of the last second.", "quiet"));
  cell.append(more);
  row.append(cell);
  return row;
}

function fillLinks(row, session) {
  for (const [who, leg] of row.legs) {
    const {link} = session[who];
    if (!link) continue;
    const [, rtt, sends, receives, loss, again, drops, latency] = leg.children;
    put(rtt, `${link.rtt_ms.toFixed(1)} ms`);
    put(sends, bits(link.send_rate_bps));
    put(receives, bits(link.recv_rate_bps));
    put(loss, `${worst(link).toFixed(1)} %`, `sent ${link.send_loss_percent.toFixed(1)} %, received ${link.recv_loss_percent.toFixed(1)} %`);
    put(again, `${link.retransmitted} packets`);
    put(drops, `${link.messages_dropped} messages`, `too late: ${link.sent_late} packets sent, ${link.received_late} received`, link.dropping ? "held" : "");
    put(latency, `${Math.max(link.send_latency_ms, link.receive_latency_ms)} ms`, `sent ${link.send_latency_ms} ms, received ${link.receive_latency_ms} ms`);
  }
}

function worst(link) { return Math.max(link.send_loss_percent, link.recv_loss_percent); }

function end(of) { return of.client_id || of.address; }

function fillSession(row, session) {
  const [fe, be, port, state, toBe, toFe, since] = row.children;
  put(fe, end(session.fe), [session.fe.address, srt(session.fe.link)].filter(Boolean).join("; "), session.fe.link?.dropping ? "held" : "");
  put(be, end(session.be), [session.be.address, srt(session.be.link)].filter(Boolean).join("; "), session.be.link?.dropping ? "held" : "");
  put(port, String(session.port), [session.protocol, session.service].filter(Boolean).join(" "));
  const drops = [["FE", session.fe], ["BE", session.be]].filter(([, of]) => of.link && of.link.dropping)
    .map(([who]) => `the ${who} reads too slowly, messages are dropped`).join(", ");
  const slow = drops ? drops : session.fe.pushed_back ? "the BE is slower" : session.be.pushed_back ? "the FE is slower" : "";
  const limited = session.fe.held_back || session.be.held_back ? "at its bandwidth limit" : "";
  const waits = [["BE", session.be.stalled], ["FE", session.fe.stalled]].filter(([, seconds]) => seconds >= 1)
    .map(([who, seconds]) => `${time(seconds)} for the ${who}`).join(", ");
  put(state, session.state, [session.cause || slow || limited, waits && `waited ${waits}`].filter(Boolean).join("; "), slow && "held");
  put(toBe, rate(session.fe_to_be_rate), amount(session.fe_to_be_bytes));
  put(toFe, rate(session.be_to_fe_rate), amount(session.be_to_fe_bytes));
  put(since, time(session.seconds));
  if (!session.fe.link && !session.be.link) return;
  row.more ??= newLinks(session);
  fillLinks(row.more, session);
}

function newBroker() {
  return cells(["Broker", "State", "Frontend", "Backend", "From the frontend", "From the backend", "Handshakes failed"]);
}

function fillBroker(row, broker) {
  const [pattern, state, frontend, backend, there, back, failed] = row.children;
  put(pattern, broker.pattern, `security ${broker.security}`);
  put(state, broker.state, "", broker.state === "running" ? "" : "held");
  for (const [cell, side] of [[frontend, broker.frontend], [backend, broker.backend]]) {
    put(cell, `port ${side.port}`, `${side.connections} connected`);
  }
  put(there, amount(broker.frontend.received.bytes), `${broker.frontend.received.parts} parts`);
  put(back, amount(broker.backend.received.bytes), `${broker.backend.received.parts} parts`);
  put(failed, String(Object.values(broker.handshake_failures).reduce((sum, count) => sum + count, 0)));
}

function newClient() { return cells(["Client", "Role", "Address", "State", "Sessions", "Leases"]); }

function fillClient(row, client) {
  const [id, role, address, state, sessions, leases] = row.children;
  put(id, client.client_id, `since ${new Date(client.registered_at).toLocaleTimeString()}`);
  put(role, client.role);
  put(address, client.address);
  put(state, client.state, "", client.state);
  put(sessions, String(client.sessions));
  put(leases, String(client.leases));
}

function happened(event) {
  const line = document.createElement("li");
  const when = make("time", new Date(event.at).toLocaleTimeString());
  when.dateTime = event.at;
  line.append(when, make("span", (event.level === "info" ? "" : `${event.level}: `) + event.text, event.level));
  $("events").prepend(line);
  while ($("events").children.length > MOST_EVENTS) $("events").lastChild.remove();
  $("e-none").hidden = true;
}

// what is done

function confirmClosing(session) {
  closing = session.pairing_id;
  set("closing-text", `${end(session.fe)} and ${end(session.be)} on port ${session.port}`);
  $("closing").returnValue = "";
  $("closing").showModal();
}

$("closing").addEventListener("close", async () => {
  if ($("closing").returnValue !== "close") return;
  try {
    const answer = await fetch(`/api/v1/sessions/${encodeURIComponent(closing)}`,
      {method: "DELETE", headers: headers({"X-Relayx-Request": "1"})});
    if (!answer.ok) trouble(`The session was not closed: ${(await answer.json()).error}.`);
  } catch (error) {
    trouble(`The session was not closed: ${error.message}.`);
  }
});

$("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  $("token").value = "";
  if (!SENDABLE.test(token)) { trouble(WRONG); return; }
  sessionStorage.setItem(KEY, token);
  follow();
});

$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  follow();
});

for (const state of Object.keys(SIGNS)) {
  const item = make("li", undefined, state);
  const sign = make("span", SIGNS[state], "sign");
  sign.setAttribute("aria-hidden", "true");
  const sum = make("span", ` ${MEANINGS[state]}`);
  sum.id = `sum-${state}`;
  item.append(sign, sum);
  $("legend").append(item);
}
follow();
