/* SPDX-License-Identifier: MIT */
/* --- the broker ----------------------------------------------------------- */

const brokerTiles = new Tiles($("broker"), ["Delivered/s", "Connections", "Memory queued", "Event loop turn"]);
let turns = 0, lag = null, lastEvent = -1, process = 0, lastStatus = null, allTroubles = false;

/* The name of this broker, to tell several on one machine, or in one browser, apart. */
function showName(s, wrong) {
	const name = (s.instance && s.instance !== "bulkhead" ? s.instance + " " : "") + "on " + (s.host || "?");
	text($("who"), name);
	document.title = (wrong ? "▲ " + wrong + " " : "") + name + " – Bulkhead";
}
/* The peers that have this trouble. */
function namedBy(t) {
	return t.count ? view.peers.filter(p => p.proxy === t.proxy && p.side === t.side && p.shown === t.kind) : [];
}
function troubleItem() {
	const li = make("li");
	make("b", "", li);
	make("div", "small", li);
	make("div", "who", li);
	return li;
}
function showTrouble(li, t) {
	const [what, advice, who] = li.children, named = namedBy(t);
	text(what, (t.level === "bad" ? "✖ " : t.level === "good" ? "● " : "▲ ") + t.text);
	text(advice, t.advice);
	const items = pool(who, Math.min(named.length, 4), () => {
		const button = make("button");
		button.type = "button";
		button.addEventListener("click", () => showOnly("", button.dataset.id));
		return button;
	});
	named.slice(0, 4).forEach((p, i) => {
		text(items[i], named.length > 4 && i === 3 ? "and " + group(named.length - 3) + " more" :
			p.name ? p.name + " (" + p.where + ")" : p.where);
		items[i].dataset.id = named.length > 4 && i === 3 ? t.kind : "#" + p.id + " ";
	});
}
const FINE = {level: "good", count: 0, text: "Nothing is wrong.",
	advice: "Every endpoint listens, every proxy has a worker that is ready, and nobody is suspect, stalled or silent."};

function showTroubles(s) {
	const more = s.troubles_left_out, many = s.troubles.length + more;
	const list = many ? [...s.troubles] : [FINE];
	if (more) list.push({level: "warning", count: 0, text: "and " + group(more) + " more", advice: ""});
	const items = pool($("troubles"), list.length, troubleItem);
	list.forEach((t, i) => showTrouble(items[i], t));
	const open = allTroubles && many > 1;
	set($("now"), "className", "bar " + (list[0].level === "warning" ? "warn" : list[0].level) + (many > 1 ? " many" : "") + (open ? " open" : ""));
	set($("all-troubles"), "hidden", many < 2);
	text($("all-troubles"), open ? "Show 1 of " + many : "Show all " + many);
	return many;
}
function showStatus(s, received) {
	const running = s.state === "running", full = s.connections / s.max_connections;
	const used = s.memory_limit ? s.memory_bytes / s.memory_limit : 0;
	if (process && process !== s.pid) restarted();
	process = s.pid;
	lastStatus = s;
	text($("state"), running ? s.ready ? "● ready" : "▲ not ready" : "▼ " + s.state);
	set($("state"), "className", "pill " + (running && s.ready ? "good" : running ? "bad" : "warn"));
	text($("about"), s.version + " · process " + s.pid + " · up " + age(s.uptime_seconds * 1000));
	showName(s, showTroubles(s));
	brokerTiles.put("Connections", count(s.connections), "of " + count(s.max_connections), full > .95 ? "bad" : full > .8 ? "warn" : "");
	brokerTiles.put("Memory queued", bytes(s.memory_bytes), s.memory_limit ? "of " + bytes(s.memory_limit) + ", " + (used * 100).toFixed(used < .1 ? 1 : 0) + " %" : "no limit", used > .9 ? "bad" : used > .7 ? "warn" : "");
	for (const p of s.proxies) if (proxies.has(p.name)) proxies.get(p.name).status(p);
	takeWaiting(s, received);
}
function showStats(s) {
	if (s.turns < turns) restarted();
	turns = s.turns;
	const time = s.clock_ms / 1000, names = new Set(s.proxies.map(p => p.name));
	for (const [name, p] of proxies) if (!names.has(name)) { p.remove(); proxies.delete(name); }
	for (const p of s.proxies) {
		if (!proxies.has(p.name)) proxies.set(p.name, new ProxyCard(p.name));
		proxies.get(p.name).stats(p, time);
	}
	const now = s.loop_lag_seconds.buckets, p99 = quantile(now, lag, .99);
	brokerTiles.put("Event loop turn", seconds(quantile(now, lag, .5)), "p50, p99 " + seconds(p99), p99 > .5 ? "warn" : "");
	lag = now;
	let sum = 0, known = true;
	for (const p of proxies.values()) {
		const v = p.past[p.past.length - 1], o = p.past[0], t = v.time - o.time;
		if (!(t > 0)) { known = false; continue; }
		for (const side of SIDES) sum += (v.s[side].sent - o.s[side].sent) / t;
	}
	brokerTiles.put("Delivered/s", rate(known ? sum : null), "of all proxies");
}
/* Another process: its counters begin at 0. */
function restarted() {
	for (const p of proxies.values()) p.past = [];
	past.rows.clear();
	past.last = turns = 0;
	view.lastOf.clear();
	lag = null;
	lastEvent = -1;
}

/* --- asking --------------------------------------------------------------- */

const TICK = 1000, PEERS_TICK = 2000, PATIENCE = 4000;
let failing = null, good = null, asked = 0, frozen = false, timer = 0, busy = false, peersDue = 0, historyDue = 0;

async function get(what) {
	const stop = new AbortController(), late = setTimeout(() => stop.abort(), PATIENCE);
	try {
		const r = await fetch("api/" + what, {cache: "no-store", signal: stop.signal});
		const body = await r.json().catch(() => null);
		if (!r.ok || body === null)
			throw new Error(body && body.error ? body.error : "status " + r.status);
		return body;
	} catch (e) {
		throw stop.signal.aborted ? new Error("no answer within " + PATIENCE / 1000 + " s") :
			e instanceof TypeError ? new Error("the broker cannot be reached") : e;
	} finally {
		clearTimeout(late);
	}
}
/* the more peers there are, the less often they are requested */
async function askPeers() {
	const began = performance.now(), list = await get("peers");
	takePeers(list.peers, list.clock_ms / 1000);
	peersDue = performance.now() + Math.max(PEERS_TICK, 10 * (performance.now() - began)) - TICK / 2;
}
async function ask() {
	showStats(await get("stats"));
	const status = await get("status"), received = Date.now();
	if (performance.now() >= peersDue) await askPeers();
	showStatus(status, received);
	showPeers();
	if (performance.now() >= historyDue) {
		const h = await get("history/" + past.last);
		takeHistory(h);
		historyDue = performance.now() + h.interval_ms - TICK / 2;
	}
	if (status.last_event !== lastEvent) {
		events = (await get("events")).events;
		lastEvent = status.last_event;
		showEvents();
	}
}
function showFresh() {
	const stale = failing !== null;
	set($("alert"), "hidden", !stale);
	document.body.classList.toggle("stale", stale);
	if (stale) {
		document.title = "✖ no answer " + $("who").textContent + " – Bulkhead";
		text($("state"), "no answer");
		set($("state"), "className", "pill bad");
		text($("alert-text"), "▲ The daemon has not answered for " + age(Date.now() - failing.since) + ": " + failing.why +
			(good ? ". The values are from " + clock(good) + "." : "."));
	}
	text($("fresh"), good ? (frozen ? "frozen at " : "as of ") + clock(good) : "");
}
async function tick() {
	clearTimeout(timer);
	if (busy || frozen || document.hidden) return;
	busy = true;
	const began = performance.now();
	try {
		await ask();
		failing = null;
		good = new Date();
		document.documentElement.dataset.asked = ++asked;
	} catch (e) {
		if (!failing) failing = {since: (good || new Date()).getTime()};
		failing.why = e.message;
	}
	busy = false;
	showFresh();
	clearTimeout(timer);
	timer = setTimeout(tick, Math.max(100, TICK - (performance.now() - began)));
}
$("freeze").addEventListener("click", () => {
	frozen = !frozen;
	text($("freeze"), frozen ? "Unfreeze view" : "Freeze view");
	showFresh();
	tick();
});
$("all-troubles").addEventListener("click", () => {
	allTroubles = !allTroubles;
	showTroubles(lastStatus);
});
$("span").addEventListener("input", () => { for (const p of proxies.values()) p.drawCharts(); });
document.addEventListener("visibilitychange", tick);
buildPeers();
buildEvents();
tick();
