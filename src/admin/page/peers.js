/* SPDX-License-Identifier: MIT */
/* --- pages of a table ----------------------------------------------------- */

class Pager {
	/* size: returns the rows of a page; turned: draws it again */
	constructor(box, size, turned) {
		Object.assign(this, {box, size, page: 0});
		this.range = make("span", "muted small number", box);
		[this.prev, this.next] = [["Previous", -1], ["Next", 1]].map(([name, by]) => {
			const button = make("button", "", box);
			button.type = "button";
			text(button, name);
			button.addEventListener("click", () => { this.page += by; turned(); });
			return button;
		});
	}
	/* The rows of the present page. */
	cut(rows) {
		const size = this.size(), pages = Math.max(1, Math.ceil(rows.length / size));
		this.page = Math.min(this.page, pages - 1);
		const from = this.page * size, shown = rows.slice(from, from + size);
		text(this.range, rows.length ? group(from + 1) + "–" + group(from + shown.length) + " of " + group(rows.length) : "");
		set(this.box, "hidden", pages === 1);
		set(this.prev, "disabled", this.page === 0);
		set(this.next, "disabled", this.page >= pages - 1);
		return shown;
	}
}
const phone = matchMedia("(max-width: 600px)");

/* --- peers ---------------------------------------------------------------- */

/* Sign and colour of each state, troubles first. The sign tells them apart without colours. */
const STATES = {
	poisoned: ["✖", "bad"], suspect: ["◆", "bad"], stalled: ["▲", "warn"], silent: ["◇", "warn"], blocked: ["▲", "warn"],
	reconnecting: ["↻", "warn"], connecting: ["…", "calm"], handshake: ["…", "calm"],
	draining: ["▼", "calm"], closing: ["▼", "calm"], ready: ["●", "good"]
};
const RANK = Object.keys(STATES);
const inTrouble = p => STATES[p.shown][1] === "bad" || STATES[p.shown][1] === "warn";
const BLOCKED_MS = 1000; /* how long a kernel accepts nothing before the peer is shown as blocked */
/* place: position in a narrow table, where numbers are below their titles */
const COLUMNS = [
	{title: "State", key: p => RANK.indexOf(p.shown), up: true, place: "line",
		cell: p => [STATES[p.shown][0] + "\u00a0" + p.shown, p.note], state: true},
	{title: "Peer", key: p => p.name || p.address, up: true, place: "whole", cell: p => p.name ? [p.name, p.where] : [p.address, "#" + p.id]},
	{title: "Side", key: p => p.proxy + " " + p.side, up: true, place: "line", cell: p => [p.side, p.proxy]},
	{title: "Type", key: p => p.socket_type || "", up: true, place: "line", cell: p => [p.socket_type || "–", p.zmtp ? "ZMTP " + p.zmtp : ""]},
	{title: "Unanswered", hint: "requests that a worker has not answered yet", key: p => p.outstanding, n: true, cell: p => [count(p.outstanding), ""]},
	{title: "Queued", hint: "messages and bytes for it", key: p => p.queued_bytes, n: true, cell: p => [count(p.queued), size(p.queued_bytes)]},
	{title: "Waiting", hint: "messages from it that have no receiver yet, or are incomplete", key: p => p.waiting_bytes + p.part_bytes, n: true, cell: p => [count(p.waiting), size(p.waiting_bytes + p.part_bytes)]},
	{title: "Msg/s", hint: "in and out", key: p => p.per === null ? -1 : p.per, n: true, cell: p => [rate(p.per), ""]},
	{title: "Requests", hint: "sent by a client, or delivered to a worker", key: p => p.requests[0], n: true, cell: p => [count(p.requests[0]), size(p.requests[1])]},
	{title: "Replies", hint: "delivered to a client, or sent by a worker", key: p => p.replies[0], n: true, cell: p => [count(p.replies[0]), size(p.replies[1])]},
	{title: "Idle", hint: "since its last byte", key: p => p.idle_ms, n: true, cell: p => [p.id ? age(p.idle_ms) : "–", ""]},
	{title: "Age", key: p => p.age_ms, n: true, cell: p => [p.id ? age(p.age_ms) : "–", ""]}
];
const view = {peers: [], lastOf: new Map(), lastTime: 0, sort: 0, reverse: false, waiting: []};
let peersPager;

function stateOf(p) {
	if (p.poison === "poisoned") return "poisoned";
	if (p.suspect) return "suspect";
	if (p.state === "ready" && p.blocked_ms >= BLOCKED_MS) return "blocked";
	return p.state in STATES ? p.state : "closing";
}
function noteOf(p) {
	if (p.blocked_ms >= BLOCKED_MS) return (p.shown === "suspect" && p.state === "stalled" ? "stalled: " : "") + "accepted nothing for " + age(p.blocked_ms);
	if (p.shown === "silent" || (p.shown === "suspect" && p.outstanding)) return count(p.outstanding) + " unanswered";
	if (p.shown === "suspect") return "past answer_timeout";
	if (!p.reading) return "not read: receivers are full";
	return p.poison === "armed" ? "inside a message" : "";
}
function takePeers(list, time) {
	const before = view.lastOf, t = time - view.lastTime;
	view.lastOf = new Map();
	for (const p of list) {
		const total = p.messages_in + p.messages_out, was = before.get(p.id);
		const into = [p.messages_in, p.bytes_in], out = [p.messages_out, p.bytes_out];
		view.lastOf.set(p.id, total);
		p.per = was === undefined || !(t > 0) ? null : (total - was) / t;
		[p.requests, p.replies] = p.side === "backend" ? [out, into] : [into, out];
		p.shown = stateOf(p);
		p.note = noteOf(p);
		p.name = p.routing_id || "";
		p.where = "#" + p.id + " " + p.address;
	}
	view.lastTime = time;
	view.peers = list;
	fillSides();
}
/* Endpoints that are to be dialled again are listed as well. */
function takeWaiting(status, received) {
	view.waiting = status.proxies.flatMap(p => p.endpoints.filter(e => e.wait_ms > 0 || e.state === "waiting").map(e => ({
		id: 0, proxy: p.name, side: e.side, shown: "reconnecting", routing_id: null, name: e.endpoint,
		where: "dialled by Bulkhead", socket_type: null, zmtp: null, queued: 0, queued_bytes: 0, waiting: 0,
		waiting_bytes: 0, part_bytes: 0, outstanding: 0, requests: [0, 0], replies: [0, 0], per: null,
		age_ms: 0, idle_ms: 0, note: "next attempt in " + age(e.wait_ms) + ", at " + clock(new Date(received + e.wait_ms))
	})));
}
function fillSides() {
	const names = [...new Set(view.peers.map(p => p.proxy))].sort();
	const each = names.length > 1 ? names.flatMap(n => SIDES.map(s => n + " " + s)) : [];
	fillSelect($("filter-side"), [["", "All sides"], ...[...SIDES, ...each].map(s => [s, s])]);
}
function fillStates(rows) {
	const n = {};
	for (const p of rows) n[p.shown] = (n[p.shown] || 0) + 1;
	fillSelect($("filter-state"), [["", "All states", rows.length], ["trouble", "in trouble", rows.filter(inTrouble).length],
		...RANK.map(s => [s, s, n[s] || 0])].map(([value, label, c]) => [value, label + " (" + group(c) + ")"]));
}
function filtered(every) {
	const words = $("filter").value.toLowerCase().split(/\s+/).filter(w => w);
	const state = $("filter-state").value, side = $("filter-side").value;
	return every.filter(p => {
		if (state && !(state === "trouble" ? inTrouble(p) : p.shown === state)) return false;
		if (side && side !== p.side && side !== p.proxy + " " + p.side) return false;
		const hay = (p.name + " " + p.where + " " + p.proxy + " " + p.side + " " + (p.socket_type || "") + " " + p.shown).toLowerCase();
		return words.every(w => hay.includes(w));
	});
}
function sorted(rows) {
	const column = COLUMNS[view.sort], way = (column.up ? 1 : -1) * (view.reverse ? -1 : 1);
	for (const p of rows) p.sortKey = column.key(p);
	return rows.sort((a, b) => (a.sortKey < b.sortKey ? -way : a.sortKey > b.sortKey ? way : 0) ||
		(view.sort === 0 ? b.queued_bytes - a.queued_bytes : 0) || a.id - b.id);
}
function peerRow() {
	const tr = make("tr");
	for (const c of COLUMNS) {
		const td = make("td", c.n ? "n" : c.place, tr);
		td.dataset.label = c.title;
		make("div", c.state ? "st" : "", td);
		make("div", "", td);
	}
	return tr;
}
function showPeers() {
	const every = view.waiting.concat(view.peers);
	fillStates(every);
	const rows = sorted(filtered(every)), shown = peersPager.cut(rows);
	const body = pool($("peers").tBodies[0], shown.length, peerRow);
	shown.forEach((p, i) => {
		set(body[i], "className", inTrouble(p) ? STATES[p.shown][1] : "");
		COLUMNS.forEach((c, j) => {
			const [a, b] = body[i].cells[j].children, values = c.cell(p);
			text(a, values[0]);
			text(b, values[1]);
			if (c.state) set(a, "className", "st " + STATES[p.shown][1]);
			if (c.title === "Peer") { set(a, "title", p.name); set(b, "title", p.where); }
		});
	});
	showSort();
	const trouble = every.filter(inTrouble).length;
	text($("peers-count"), group(view.peers.length) + " connected" + (view.waiting.length ? ", " + view.waiting.length + " to be dialled" : "") +
		(trouble ? ", " + group(trouble) + " in trouble" : ""));
	text($("nav-peers"), (trouble ? "▲ " + group(trouble) + " of " : "") + group(every.length));
	set($("peers-none"), "hidden", rows.length > 0);
	text($("peers-none"), every.length ? "No peer matches." : "No peer is connected.");
}
function showSort() {
	document.querySelectorAll("#peers th").forEach((th, j) => {
		const c = COLUMNS[j], mine = j === view.sort, up = c.up !== view.reverse && !(!c.up && !view.reverse);
		if (mine) th.setAttribute("aria-sort", up ? "ascending" : "descending");
		else th.removeAttribute("aria-sort");
		text(th.firstChild, c.title + (mine ? up ? " ↑" : " ↓" : ""));
	});
	set($("sort"), "value", String(view.sort));
}
function sortBy(column, reverse) {
	view.sort = column;
	view.reverse = reverse;
	peersPager.page = 0;
	showPeers();
}
/* Show only these peers; "": all. */
function showOnly(state, words) {
	$("filter-state").value = state;
	$("filter-side").value = "";
	$("filter").value = words;
	peersPager.page = 0;
	showPeers();
	$("peers-card").scrollIntoView();
}
function buildPeers() {
	const head = document.querySelector("#peers thead tr");
	peersPager = new Pager($("peers-pager"), () => phone.matches ? 10 : 20, showPeers);
	COLUMNS.forEach((c, j) => {
		const th = make("th", c.n ? "n" : "", head);
		th.scope = "col";
		const button = make("button", "", th);
		button.type = "button";
		if (c.hint) button.title = c.hint;
		button.addEventListener("click", () => sortBy(j, view.sort === j && !view.reverse));
	});
	fillSelect($("sort"), COLUMNS.map((c, j) => [String(j), "by " + c.title]));
	$("sort").addEventListener("input", () => sortBy(+$("sort").value, false));
	for (const id of ["filter", "filter-state", "filter-side"])
		$(id).addEventListener("input", () => { peersPager.page = 0; showPeers(); });
	phone.addEventListener("change", () => { showPeers(); showEvents(); });
	fillSides();
	showPeers();
}

/* --- events --------------------------------------------------------------- */

const LEVELS = ["error", "warning", "notice", "info"];
const SIGNS = {error: ["✖ ", "bad"], warning: ["▲ ", "warn"], notice: ["◆ ", ""], info: ["", "calm"]};
const unfolded = new Set();
let events = [], eventsPager;

function eventRow() {
	const tr = make("tr"), cells = ["number", "st", "what", "muted", "detail"].map(c => make("td", c, tr));
	make("span", "", cells[2]);
	const button = make("button", "times-folded number", cells[2]);
	button.type = "button";
	button.addEventListener("click", () => {
		const key = button.dataset.key;
		if (!unfolded.delete(key)) unfolded.add(key);
		showEvents();
	});
	return tr;
}
function timeOf(e) {
	const date = new Date(e.time), today = date.toDateString() === new Date().toDateString();
	return (today ? "" : date.toLocaleDateString() + " ") + clock(date);
}
function showEvent(tr, e, g) {
	const [when, level, what, where, detail] = tr.cells, [name, button] = what.children;
	const get = key => (e.fields.find(x => x[0] === key) || [])[1], times = g ? g.events.length : 1;
	set(tr, "className", g ? "" : "child");
	text(when, timeOf(e));
	text(level, (SIGNS[e.level] || ["", ""])[0] + e.level);
	set(level, "className", "st " + (SIGNS[e.level] || ["", ""])[1]);
	text(name, e.event.replace(/_/g, " "));
	set(button, "hidden", times === 1);
	text(button, "× " + times);
	button.dataset.key = g ? g.key : "";
	button.setAttribute("aria-expanded", Boolean(g && unfolded.has(g.key)));
	set(button, "title", "show or hide each of them");
	text(where, [get("proxy"), get("side")].filter(x => x).join(" "));
	text(detail, (times > 1 ? "since " + timeOf(g.events[times - 1]) + "; last: " : "") + detailOf(e.fields));
}
function showEvents() {
	const most = +$("filter-level").value;
	const groups = fold(events.filter(e => LEVELS.indexOf(e.level) <= most));
	const rows = groups.flatMap(g => [[g.events[0], g], ...(unfolded.has(g.key) ? g.events.slice(1).map(e => [e, null]) : [])]);
	const shown = eventsPager.cut(rows), body = pool($("events").tBodies[0], shown.length, eventRow);
	shown.forEach(([e, g], i) => showEvent(body[i], e, g));
	const warnings = events.filter(e => LEVELS.indexOf(e.level) <= 1).length;
	text($("events-count"), "the last " + group(events.length) + (warnings ? ", " + plural(warnings, "warning") : ""));
	text($("nav-events"), warnings ? "▲ " + group(warnings) : "");
	set($("events-none"), "hidden", rows.length > 0);
}
function buildEvents() {
	eventsPager = new Pager($("events-pager"), () => phone.matches ? 8 : 14, showEvents);
	$("filter-level").addEventListener("input", () => { eventsPager.page = 0; showEvents(); });
}
