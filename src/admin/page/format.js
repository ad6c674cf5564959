/* SPDX-License-Identifier: MIT */
/*
 * Values and events in readable form. Nothing here uses the document, so that tests can run it
 * without one.
 */

/* --- values --------------------------------------------------------------- */

const group = n => Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, ",");
function scaled(n, step, units) {
	let i = 0;
	while (n >= step && i < units.length - 1) n /= step, i++;
	return (i ? n.toFixed(n < 100 ? 1 : 0) : group(n)) + units[i];
}
const count = n => n < 100000 ? group(n) : scaled(n, 1000, ["", "k", "M", "G", "T", "P"]);
const bytes = n => scaled(n, 1024, [" B", " KiB", " MiB", " GiB", " TiB", " PiB"]);
const size = n => n ? bytes(n) : "";
const rate = n => n === null ? "–" : n > 0 && n < 10 ? n.toFixed(1) : count(n);
const plural = (n, what) => count(n) + " " + what + (n === 1 ? "" : "s");
function seconds(s) {
	if (s === null) return "–";
	if (s < 0.001) return Math.round(s * 1e6) + " µs";
	if (s < 1) return (s * 1000).toFixed(s < 0.01 ? 1 : 0) + " ms";
	return s.toFixed(s < 10 ? 1 : 0) + " s";
}
function age(ms) {
	const s = Math.floor(ms / 1000), two = n => String(n).padStart(2, "0");
	if (s < 10) return (Math.max(ms, 0) / 1000).toFixed(1) + " s";
	if (s < 60) return s + " s";
	if (s < 3600) return Math.floor(s / 60) + "m " + two(s % 60) + "s";
	if (s < 86400) return Math.floor(s / 3600) + "h " + two(Math.floor(s / 60) % 60) + "m";
	return Math.floor(s / 86400) + "d " + two(Math.floor(s / 3600) % 24) + "h";
}
const clock = date => date.toTimeString().slice(0, 8);

/* Of the values added between two histograms, evenly distributed in each bucket; null: none. */
function quantile(now, before, part) {
	const buckets = now.map((b, i) => b.count - (before ? before[i].count : 0));
	const want = part * buckets.reduce((a, b) => a + b, 0);
	if (!(want > 0)) return null;
	let seen = 0;
	for (let i = 0; i < buckets.length; i++) {
		if (buckets[i] > 0 && seen + buckets[i] >= want) {
			if (now[i].le === null) return now[i - 1].le;
			const low = i ? now[i - 1].le : 0;
			return low + (now[i].le - low) * (want - seen) / buckets[i];
		}
		seen += buckets[i];
	}
	return null;
}
const add = (a, b) => a.map((x, i) => ({le: x.le, count: x.count + b[i].count}));

/* --- scales --------------------------------------------------------------- */

/* From 0 to a round number, with a tick at half of it. */
function linearScale(values, least) {
	const most = Math.max(least, ...values), power = Math.pow(10, Math.floor(Math.log10(most)));
	const top = [1, 2, 4, 6, 8, 10].find(m => m * power >= most * 0.999) * power;
	return {ticks: [0, top / 2, top], at: v => v / top};
}
/* Whole decades, at least two: shows both a spike and the usual values. */
function logScale(values) {
	const some = values.filter(v => v > 0);
	const low = some.length ? Math.floor(Math.log10(Math.min(...some)) + 1e-9) : -5;
	const high = Math.max(some.length ? Math.ceil(Math.log10(Math.max(...some)) - 1e-9) : -3, low + 2);
	const step = Math.ceil((high - low) / 5), ticks = [];
	for (let e = low; e <= high; e += step) ticks.push(Math.pow(10, e));
	return {ticks, at: v => (Math.log10(Math.max(v, Math.pow(10, low))) - low) / (high - low)};
}

/* --- events --------------------------------------------------------------- */

/* Undo the quoting of the log: bytes written as \xNN become UTF-8 again. */
function unquoted(text) {
	const parts = [], encoder = new TextEncoder();
	for (const m of text.matchAll(/\\x([0-9a-f]{2})|\\(.)|([^\\]+)/gs))
		parts.push(...(m[1] ? [parseInt(m[1], 16)] : encoder.encode(m[2] || m[3])));
	/* no control characters in a line */
	return new TextDecoder().decode(new Uint8Array(parts)).replace(/[\x00-\x1f\x7f]+/g, " ").trim();
}
/* key=value pairs */
function fieldsOf(line) {
	const out = [];
	for (const m of line.matchAll(/([A-Za-z0-9_.-]+)=("(?:[^"\\]|\\.)*"?|\S*)/g))
		out.push([m[1], m[2][0] === '"' ? unquoted(m[2].slice(1).replace(/"$/, "")) : m[2]]);
	return out;
}
/* Fields that have another name here, or are shown without one. */
const WORDS = {
	outstanding: "unanswered", age: "connected for", silent: "silent for", messages_in: "messages in",
	messages_out: "messages out", bytes_in: "read", bytes_out: "written"
};
const BARE = ["address", "endpoint", "detail", "error", "socket"];
const PLAIN = ["pid", "uid", "peer", "zmtp", "version", "line", "errors"]; /* numbers that are not counts */
function phrase(key, value) {
	if (key === "peer") return "#" + value;
	if (BARE.includes(key)) return value;
	if (key === "poisoned") return "a message was cut (poisoned)";
	const ms = /_ms$/.test(key), name = key.replace(/_ms$/, "");
	const word = WORDS[name] || name.replace(/_/g, " ");
	if (!/^\d+$/.test(value) || PLAIN.includes(key)) return word + " " + value;
	if (ms) return word + " " + age(+value);
	if (/^bytes_|_bytes$|^bytes$/.test(key)) return word.replace(/ ?bytes ?/, "") + " " + bytes(+value);
	return word + " " + count(+value);
}
/* Proxy and side have a column of their own; empty values are left out. */
function detailOf(fields) {
	return fields.filter(([k, v]) => k !== "proxy" && k !== "side" && !["-", "0", "no", ""].includes(v))
		.map(([k, v]) => phrase(k, v)).join(" · ");
}
const TOLD_APART = ["peer", "address", "routing_id"]; /* ignored when events are grouped */
const FOLD_MS = 120000; /* after a longer pause between two of a kind, a new group begins */
/* Group events (oldest first): groups and the events in each are newest first. */
function fold(events) {
	const groups = [], open = new Map();
	for (const e of [...events].reverse()) {
		const fields = fieldsOf(e.text), time = new Date(e.time).getTime();
		const key = [e.event, e.level, ...fields.filter(([k, v]) => !TOLD_APART.includes(k) && !/^\d+$/.test(v))
			.map(f => f.join("="))].join(" ");
		const last = open.get(key), one = {...e, fields, time};
		if (last && last.events[last.events.length - 1].time - time <= FOLD_MS) {
			last.events.push(one);
		} else {
			const fresh = {key, events: [one]};
			groups.push(fresh);
			open.set(key, fresh);
		}
	}
	return groups;
}
