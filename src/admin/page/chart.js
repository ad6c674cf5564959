/* SPDX-License-Identifier: MIT */
/* --- elements ------------------------------------------------------------- */

const $ = id => document.getElementById(id);
function make(tag, cls, parent) {
	const e = document.createElement(tag);
	if (cls) e.className = cls;
	if (parent) parent.append(e);
	return e;
}
function makeSvg(tag, attributes, parent) {
	const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
	for (const k in attributes) e.setAttribute(k, attributes[k]);
	if (parent) parent.append(e);
	return e;
}
function text(e, value) {
	value = String(value);
	if (e.firstChild && e.firstChild === e.lastChild && e.firstChild.nodeType === 3) {
		if (e.firstChild.data !== value) e.firstChild.data = value;
	} else if (e.textContent !== value) {
		e.textContent = value;
	}
}
function set(e, key, value) { if (e[key] !== value) e[key] = value; }
/* Adjust the number of children; existing ones are kept. */
function pool(parent, count, create) {
	while (parent.children.length < count) parent.append(create());
	while (parent.children.length > count) parent.lastElementChild.remove();
	return parent.children;
}
/* Without an attribute `value`, an option's value is its text; so "" needs one, too. */
function fillSelect(select, want) {
	const options = pool(select, want.length, () => make("option"));
	want.forEach(([value, label], i) => {
		if (options[i].getAttribute("value") !== value) options[i].setAttribute("value", value);
		text(options[i], label);
	});
}

/* --- charts --------------------------------------------------------------- */

/* The possible lengths in seconds, with the labels below; the last is what the broker keeps. */
const SPANS = [[60, ["60 s ago", "40 s", "20 s", "now"]], [180, ["3 min ago", "2 min", "1 min", "now"]],
	[900, ["15 min ago", "10 min", "5 min", "now"]]];
const WIDE = 1000; /* units of a chart's drawing, from left to right */

class Chart {
	/*
	 * lines: key to label; the first is drawn as a band below the others. options: format of a value,
	 * unit of an axis, scale (values to ticks and places)
	 */
	constructor(parent, title, lines, options) {
		this.options = options;
		this.rows = [];
		this.wanted = 0;
		this.hover = null;
		this.title = title;
		this.root = make("figure", "", parent);
		const caption = make("figcaption", "", this.root);
		text(make("b", "", caption), title);
		this.at = make("span", "muted number", caption);
		const legend = make("ul", "legend", this.root), plot = make("div", "plot", this.root);
		this.ticks = make("div", "ticks number", plot);
		const area = make("div", "area", plot);
		this.svg = makeSvg("svg", {viewBox: "0 0 " + WIDE + " 100", preserveAspectRatio: "none", role: "img"}, area);
		this.grid = makeSvg("path", {class: "grid"}, this.svg);
		makeSvg("path", {class: "base", d: "M0 100H" + WIDE}, this.svg);
		this.cursor = makeSvg("path", {class: "cursor"}, this.svg);
		this.none = make("span", "none", area);
		this.times = make("div", "times number", plot);
		this.lines = Object.entries(lines).map(([key, label], i) => {
			const item = make("li", "", legend), swatch = makeSvg("svg", {viewBox: "0 0 20 8", "aria-hidden": "true"}, item);
			makeSvg("path", {class: "c" + i, d: "M0 4H20"}, swatch);
			item.append(label);
			return {key, label, value: make("span", "number", item), path: makeSvg("path", {class: "c" + i}, this.svg)};
		});
		area.addEventListener("pointermove", e => {
			const box = area.getBoundingClientRect();
			this.hover = 1 - (e.clientX - box.left) / box.width;
			this.draw();
		});
		for (const end of ["pointerleave", "pointercancel"])
			area.addEventListener(end, () => { this.hover = null; this.draw(); });
	}
	/* rows: each with its time, s; null: a gap. wanted: seconds, 0: as many as there are */
	show(rows, wanted, none) {
		this.rows = rows;
		this.wanted = wanted;
		text(this.none, rows.length ? "" : none);
		this.draw();
	}
	draw() {
		const n = this.rows.length, now = n ? this.rows[n - 1].time : 0, have = n ? now - this.rows[0].time : 0;
		const [span, times] = SPANS.find(s => s[0] >= (this.wanted || have)) || SPANS[SPANS.length - 1];
		const rows = this.rows.filter(r => r.time >= now - span - 1);
		const values = rows.flatMap(r => this.lines.map(l => r[l.key])).filter(v => v !== null);
		const scale = this.options.scale(values), y = v => (100 - 98 * scale.at(v)).toFixed(1);
		const xOf = time => WIDE * (1 - (now - time) / span);
		const labels = pool(this.times, times.length, () => make("span"));
		times.forEach((t, i) => text(labels[i], t));
		this.drawTicks(scale, y);
		let shown = rows[rows.length - 1];
		if (this.hover !== null && n)
			shown = rows.reduce((a, b) => Math.abs(now - b.time - this.hover * span) < Math.abs(now - a.time - this.hover * span) ? b : a);
		const spoken = this.lines.map(line => {
			this.drawLine(line, rows, xOf, y);
			const t = shown ? this.options.format(shown[line.key]) : "–";
			text(line.value, t);
			return line.label + " " + t;
		});
		const looking = this.hover !== null && n;
		this.cursor.setAttribute("d", looking ? "M" + xOf(shown.time).toFixed(1) + " 0V100" : "");
		text(this.at, looking ? age((now - shown.time) * 1000) + " ago" : "");
		this.svg.setAttribute("aria-label", this.title + ": " + spoken.join(", "));
	}
	drawTicks(scale, y) {
		const spans = pool(this.ticks, scale.ticks.length, () => make("span"));
		let d = "";
		scale.ticks.forEach((v, i) => {
			text(spans[i], this.options.unit(v));
			spans[i].style.top = y(v) + "%";
			d += "M0 " + y(v) + "H" + WIDE;
		});
		if (this.grid.getAttribute("d") !== d) this.grid.setAttribute("d", d);
	}
	drawLine(line, rows, xOf, y) {
		let d = "", last = null;
		for (const r of rows) {
			const v = r[line.key];
			if (v === null) { last = null; continue; }
			/* a single point is a dot; a time without samples is a gap */
			const pen = last !== null && r.time - last < 10;
			d += (pen ? "L" : "M") + xOf(r.time).toFixed(1) + " " + y(v) + (pen ? "" : "h.01");
			last = r.time;
		}
		if (line.d !== d) line.path.setAttribute("d", line.d = d);
	}
}

/* --- tiles ---------------------------------------------------------------- */

/* All tiles exist from the start: none is added, removed or moved. */
class Tiles {
	constructor(list, names) {
		this.tiles = new Map(names.map(name => {
			const box = make("div", "tile", list);
			text(make("dt", "", box), name);
			return [name, {box, value: make("dd", "", box), sub: make("dd", "sub", box)}];
		}));
		for (const name of names) this.put(name, "–", "");
	}
	/* level: "", warn or bad */
	put(name, value, sub, level = "") {
		const t = this.tiles.get(name);
		text(t.value, value);
		text(t.sub, sub);
		set(t.sub, "title", sub);
		set(t.box, "className", level ? "tile " + level : "tile");
	}
}
