/* SPDX-License-Identifier: MIT */
/* --- history -------------------------------------------------------------- */

/*
 * The last 15 minutes, as the broker keeps them; a tab that was hidden requests what it missed. The rows
 * of each proxy by its name, oldest first.
 */
const past = {last: 0, rows: new Map(), kept: 900};

function takeHistory(h) {
	const us = v => v ? v / 1e6 : null;
	past.kept = h.kept_ms / 1000;
	/* a new admin process has no history: keep the rows that came from the one before */
	for (const name of [...past.rows.keys()]) if (!proxies.has(name)) past.rows.delete(name);
	for (const p of h.proxies) {
		if (!past.rows.has(p.name)) past.rows.set(p.name, []);
		const rows = past.rows.get(p.name), from = h.times.length - p.requests.length;
		p.requests.forEach((requests, i) => {
			const s = h.lengths_ms[from + i] / 1000;
			rows.push({
				time: h.times[from + i] / 1000, requests: requests / s, replies: p.replies[i] / s,
				droppedRequests: p.dropped_requests[i] / s, droppedReplies: p.dropped_replies[i] / s,
				queuedRequests: p.queued_requests[i], queuedReplies: p.queued_replies[i], unanswered: p.unanswered[i],
				p50: us(p.p50_us[i]), p90: us(p.p90_us[i]), p99: us(p.p99_us[i])
			});
		});
		while (rows.length && rows[0].time < rows[rows.length - 1].time - past.kept) rows.shift();
	}
	if (h.times.length) past.last = h.times[h.times.length - 1];
	for (const p of proxies.values()) p.drawCharts();
}

/* --- proxies -------------------------------------------------------------- */

const SIDES = ["frontend", "backend"];
const proxies = new Map();
const WINDOW = 5; /* seconds over which the rates in tiles are computed */
const PROXY_TILES = ["Requests/s", "Replies/s", "Clients ready", "Workers ready", "Queued", "Unanswered",
	"Time in the broker", "Answer time", "Dropped", "Redelivered", "Send timeouts", "Poisoned"];
const perSecond = {format: rate, unit: v => rate(v) + "/s", scale: v => linearScale(v, 2)};
const messages = {format: count, unit: v => count(v) + " msg", scale: v => linearScale(v, 2)};
const times = {format: seconds, unit: seconds, scale: logScale};

class ProxyCard {
	constructor(name) {
		this.name = name;
		this.past = [];
		this.root = make("section", "card proxy", $("proxies"));
		this.root.dataset.proxy = name;
		const head = make("div", "head", this.root);
		text(make("h2", "", head), "Proxy " + name);
		this.root.setAttribute("aria-label", "Proxy " + name);
		this.state = make("span", "pill", head);
		this.ends = make("ul", "ends", head);
		this.tiles = new Tiles(make("dl", "tiles", this.root), PROXY_TILES);
		const charts = make("div", "charts", this.root);
		this.charts = [
			new Chart(charts, "Messages per second", {requests: "requests", replies: "replies"}, perSecond),
			new Chart(charts, "Messages held", {queuedRequests: "for workers", queuedReplies: "for clients", unanswered: "unanswered"}, messages),
			new Chart(charts, "Time in the broker", {p50: "p50", p90: "p90", p99: "p99"}, times),
			new Chart(charts, "Dropped per second", {droppedRequests: "requests", droppedReplies: "replies"}, perSecond)
		];
		this.drawCharts();
	}
	remove() { this.root.remove(); }
	drawCharts() {
		const rows = past.rows.get(this.name) || [];
		const none = past.last && !past.rows.has(this.name) ? "no history: too many proxies" : "first values in 4 s";
		for (const c of this.charts) c.show(rows, +$("span").value, none);
	}
	stats(s, time) {
		const f = s.frontend, b = s.backend, old = this.past.length ? this.past[this.past.length - 1] : null;
		const sample = {time, s, buckets: add(f.forward_seconds.buckets, b.forward_seconds.buckets)};
		if (old && time <= old.time) return;
		this.past.push(sample);
		while (this.past.length > 2 && this.past[1].time <= time - WINDOW) this.past.shift();
		this.show(sample, this.past[0]);
	}
	show(now, old) {
		const {frontend: f, backend: b, answer_seconds: a} = now.s, t = now.time - old.time;
		const per = (side, key) => t > 0 ? Math.max(0, (now.s[side][key] - old.s[side][key]) / t) : null;
		const put = this.tiles.put.bind(this.tiles), both = key => f[key] + b[key];
		const q = part => t > 0 ? quantile(now.buckets, old.buckets, part) : null;
		const answer = part => quantile(a.buckets, t > 0 ? old.s.answer_seconds.buckets : null, part);
		const off = (s, ...more) => [...["suspect", "draining", "stalled", "handshake", "connecting"].map(k => [k, s.connections[k]]), ...more]
			.filter(x => x[1]).map(x => count(x[1]) + " " + x[0]).join(", ");
		const lately = key => per("frontend", key) + per("backend", key) > 0 ? "warn" : "";
		const why = SIDES.flatMap(side => Object.entries(now.s[side].dropped_by).filter(e => e[1])
			.map(e => count(e[1]) + " " + e[0])).join(", ");
		put("Requests/s", rate(per("backend", "received")), count(b.received) + " in all");
		put("Replies/s", rate(per("frontend", "received")), count(f.received) + " in all");
		put("Clients ready", count(f.connections.ready), off(f), f.connections.stalled ? "warn" : "");
		put("Workers ready", count(b.connections.ready), off(b, ["silent", Math.max(0, b.silent - b.suspects)]),
			!b.connections.ready || b.suspects ? "bad" : b.connections.stalled || b.silent ? "warn" : "");
		put("Queued", count(both("queued")), bytes(both("queued_bytes")));
		put("Unanswered", count(b.outstanding), "held by workers");
		put("Time in the broker", seconds(q(.5)), "p50, p99 " + seconds(q(.99)));
		put("Answer time", seconds(answer(.5)), a.count ? "p50, p99 " + seconds(answer(.99)) : "of workers: not tracked");
		put("Dropped", count(both("dropped")), why || "nothing", lately("dropped"));
		put("Redelivered", count(b.redelivered), count(both("rerouted")) + " rerouted");
		put("Send timeouts", count(both("send_timeouts")), "peer took nothing", lately("send_timeouts"));
		put("Poisoned", count(both("poisoned")), "cut in a message", lately("poisoned"));
	}
	status(p) {
		text(this.state, p.state);
		set(this.state, "className", "pill " + (p.state === "running" ? "good" : "warn"));
		const items = pool(this.ends, p.endpoints.length, () => {
			const li = make("li");
			make("span", "muted", li);
			make("span", "", li);
			make("span", "", li);
			return li;
		});
		p.endpoints.forEach((e, i) => {
			const [what, where, how] = items[i].children;
			text(what, e.side + " " + (e.kind === "bind" ? "binds " : "connects to "));
			text(where, e.endpoint);
			text(how, " · " + e.state + (e.wait_ms > 0 ? ", next attempt in " + age(e.wait_ms) : ""));
		});
	}
}
