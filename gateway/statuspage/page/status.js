// The status page. All that it shows comes from one stream of events, and goes
// into the document as text, never as markup.

import { Plot } from "./plot.js";

const $ = (id) => document.getElementById(id);
const root = document.documentElement;

// --- what is shown now

let news = null; // the last message
let ahead = 0; // how much the server's clock is ahead of this one, in ms
let heard = 0; // when the last message came, by this clock
let edition = "";
let accounts = new Map(); // by name, in the server's order
let calls = new Map(); // by number, oldest first
let journal = new Map(); // by number
let points = [];
let pointsEnd = 0; // the second after the last point

const now = () => Date.now() + ahead;

function take(message) {
	if (edition && message.edition !== edition) {
		location.reload(); // the gateway was replaced, and its page with it
		return;
	}
	edition = message.edition;
	heard = Date.now();
	ahead = message.now - heard;
	if (message.full) {
		accounts.clear();
		calls.clear();
		journal.clear();
		points = [];
		pointsEnd = message.series.from;
	}
	for (const a of message.accounts || []) {
		accounts.set(a.name, a);
	}
	for (const name of message.gone || []) {
		accounts.delete(name);
	}
	for (const c of message.calls || []) {
		calls.set(c.n, c);
	}
	forget((c) => smoothly(c), 50);
	forget((c) => !smoothly(c), 100);
	for (const e of message.journal || []) {
		journal.set(e.n, e);
	}
	const { from, points: more } = message.series;
	points.push(...more.slice(Math.max(0, pointsEnd - from)));
	points.splice(0, points.length - 300);
	pointsEnd = Math.max(pointsEnd, from + more.length);
	news = message;
	show();
}

// forget keeps the last requests of a sort, as many as the server does: of those that
// went through trouble more, because it is them that are looked for.
function forget(sort, most) {
	const all = [...calls.values()].filter(sort);
	for (const old of all.slice(0, Math.max(0, all.length - most))) {
		calls.delete(old.n);
	}
}

// --- the document's parts

function make(tag, attributes, ...children) {
	const e = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes || {})) {
		if (value !== null && value !== undefined && value !== false) {
			e.setAttribute(name, value === true ? "" : value);
		}
	}
	e.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
	return e;
}

function put(e, text) {
	if (e.textContent !== text) {
		e.textContent = text;
	}
}

function mark(e, name, value) {
	if (e.getAttribute(name) !== String(value)) {
		e.setAttribute(name, value);
	}
}

// list has a parent hold one element for each item, in their order. An element is
// made anew only when its item has changed: what somebody looks at or has the
// focus on stays.
function list(parent, items, key, build) {
	const had = parent.elements || new Map();
	const have = new Map();
	let place = parent.tHead ? parent.tHead.nextElementSibling : parent.firstElementChild;
	for (const item of items) {
		const text = JSON.stringify(item);
		let name = key(item);
		while (have.has(name)) { // of two items: both are to be shown
			name += "'";
		}
		let one = had.get(name);
		if (!one || one.text !== text) {
			const element = build(item);
			if (one) {
				if (place === one.element) {
					place = element;
				}
				one.element.replaceWith(element);
			}
			one = { element, text };
		}
		had.delete(name);
		have.set(name, one);
		if (one.element === place) {
			place = place.nextElementSibling;
		} else {
			parent.insertBefore(one.element, place);
		}
	}
	for (const { element } of had.values()) {
		element.remove();
	}
	parent.elements = have;
}

// --- numbers

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const count = (n) => (n < 100000 ? whole.format(n) : compact.format(n));
const some = (n, what) => count(n) + " " + what + (n === 1 ? "" : "s");
const rate = (v) => (v >= 10000 ? compact.format(v) : v >= 100 ? whole.format(Math.round(v)) : v === 0 ? "0" : v >= 10 ? v.toFixed(0) : v.toFixed(1));
const percent = (part, all) => {
	const p = (100 * part) / all;
	return (p > 99.9 && p < 100 ? "99.9" : p > 0 && p < 0.1 ? "0.1" : p === 100 || p === 0 ? p : p.toFixed(1)) + " %";
};

// money has so many digits after the point that amounts beside each other compare.
function money(v, digits = 4) {
	const sign = { USD: "$", CNY: "¥" }[news.totals.currency];
	const most = v >= 100 ? 2 : digits;
	const text = v === 0 ? "0" : new Intl.NumberFormat("en", { minimumFractionDigits: most, maximumFractionDigits: most }).format(v);
	return sign ? sign + text : text + " " + news.totals.currency;
}

// lasts tells a duration in milliseconds the way people say it.
function lasts(ms) {
	const s = Math.max(0, ms) / 1000;
	if (s < 60) {
		return Math.floor(s) + " s";
	}
	if (s < 3600) {
		return Math.floor(s / 60) + " min";
	}
	if (s < 86400) {
		return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
	}
	return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

const took = (ms) => (ms < 1000 ? ms + " ms" : ms < 10000 ? (ms / 1000).toFixed(2) + " s" : ms < 60000 ? (ms / 1000).toFixed(1) + " s" : lasts(ms));

// left is a countdown: 0:07, 4:31, 1:04:31.
function left(until) {
	const s = Math.max(0, Math.ceil((until - now()) / 1000)), two = (n) => String(n).padStart(2, "0");
	const text = two(Math.floor(s / 60) % 60) + ":" + two(s % 60);
	return s >= 3600 ? Math.floor(s / 3600) + ":" + text : text.replace(/^0/, "");
}

const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

// when tells since and until when something is so. The ticking is done by tick.
function when(c, again) {
	const parts = [];
	if (c.until) {
		parts.push(make("span", { class: "until" }, again + " in ", make("b", { "data-until": c.until }, left(c.until))));
	}
	if (c.since) {
		parts.push(make("span", { class: "since", title: clock(c.since) }, "for ", make("b", { "data-since": c.since }, lasts(now() - c.since))));
	}
	return parts;
}

const levelOf = {
	"active": "good", "on trial": "note", "cooling": "warn", "out of balance": "bad", "unauthorized": "bad", "disabled": "off",
	"closed": "good", "half-open": "warn", "recovering": "note", "open": "bad",
};
const pill = (text, level) => make("span", { class: "pill", "data-level": level || levelOf[text] || "note" }, text);

// --- the parts of the page

const plots = {
	requests: new Plot($("plot-requests"), [
		{ name: "at once", color: "--ok", at: (p) => p[0] },
		{ name: "after another attempt", color: "--mended", at: (p) => p[1] },
		{ name: "refused or left", color: "--off", at: (p) => p[3] + p[4] },
		{ name: "failed", color: "--bad", at: (p) => p[2] },
	], rate),
	errors: new Plot($("plot-errors"), [
		{ name: "429s of attempts", color: "--limited", at: (p) => p[5] },
		{ name: "other failed attempts", color: "--fault", at: (p) => p[6] },
		{ name: "failed requests", color: "--bad", at: (p) => p[2], line: true },
	], rate),
	tokens: new Plot($("plot-tokens"), [
		{ name: "answers", color: "--output", at: (p) => p[9] },
		{ name: "new prompt", color: "--miss", at: (p) => p[8] },
		{ name: "cached prompt", color: "--hit", at: (p) => p[7] },
	], rate),
};

function show() {
	showTop();
	showFigures();
	for (const plot of Object.values(plots)) {
		plot.set(points);
	}
	showAccounts();
	showCircuits();
	showClients();
	showJournal();
	showCalls();
	tick();
}

const signs = { good: "✓", note: "i", warn: "!", bad: "×" };
const sumOf = (...kinds) => points.reduce((sum, p) => sum + kinds.reduce((s, k) => s + p[k], 0), 0);

function showTop() {
	const { outlook, about } = news;
	mark($("outlook"), "data-level", outlook.level);
	put($("outlook").querySelector(".sign"), signs[outlook.level] || "");
	put($("verdict"), outlook.text);
	document.title = (outlook.level === "good" ? "" : outlook.text + " – ") + "Seawall";
	const all = sumOf(0, 1, 2, 3, 4);
	put($("lately"), all === 0 ? "No requests in the last five minutes." : `${some(all, "request")} in the last five minutes, ${count(sumOf(0, 1))} answered.`);
	list($("items"), outlook.items || [], (i) => i.level + i.text.replace(/\d+/g, "#"), (i) =>
		make("li", { "data-level": i.level }, make("span", { class: "sign", "aria-hidden": "true" }, signs[i.level]),
			make("div", {}, make("b", {}, i.text), i.doing ? make("span", { class: "doing" }, i.doing) : ""),
			make("p", { class: "when" }, ...when(i, "tried again"))));
	put($("about"), [about.upstream && "in front of " + about.upstream, "up " + lasts(now() - about.started)].filter(Boolean).join(" · "));
	put($("version"), about.version || "");
	$("note").hidden = !about.note;
	put($("note"), about.note || "");
}

function showFigures() {
	const t = news.totals;
	put($("in-flight"), count(t.in_flight));
	put($("in-flight-of"), t.limit ? "of " + count(t.limit) : "");
	bar($("in-flight-bar"), t.in_flight, t.limit);
	put($("waiting"), count(t.waiting));
	put($("waiting-more"), t.waiting ? "the longest for " + took(t.longest) : "nobody waits");
	$("waiting-more").parentElement.dataset.level = t.longest > 15000 ? "warn" : "";
	const fine = sumOf(0, 1), all = fine + sumOf(2), mended = sumOf(1);
	put($("share"), all ? percent(fine, all) : "–");
	put($("share-more"), all ? `${count(fine)} of ${count(all)}` + (mended ? `, ${count(mended)} not at once` : "") : "no requests");
	$("share-more").parentElement.dataset.level = all && fine / all < 0.98 ? (fine / all < 0.5 ? "bad" : "warn") : "";
	put($("spent"), (t.estimated ? "~" : "") + money(t.spent));
	put($("spent-more"), some(t.output, "token") + " answered" + (t.unpriced ? `, ${some(t.unpriced, "attempt")} without a price` : ""));
	put($("saved"), money(t.saved));
	put($("saved-more"), (t.hit + t.miss ? percent(t.hit, t.hit + t.miss) + " of prompt tokens were cached" : "no prompts yet") +
		(t.cache_hits ? `; ${some(t.cache_hits, "answer")} from the response cache, ${money(t.cache_saved)}` : ""));
}

function bar(e, n, most) {
	const share = most ? Math.min(1, n / most) : 0;
	mark(e, "aria-valuenow", n);
	mark(e, "aria-valuemax", Math.max(most, n));
	e.firstElementChild.style.transform = `scaleX(${share.toFixed(3)})`;
	e.dataset.full = share >= 1;
}

const rank = (a) => {
	const worst = ["unauthorized", "out of balance", "cooling", "on trial"].indexOf(a.state);
	if (worst >= 0) {
		return worst;
	}
	return a.state === "disabled" ? 7 : a.models?.some((m) => m.state !== "active") ? 4 : a.keys?.some((k) => k.state !== "active") ? 5 : 6;
};

const shownAtMost = 20;
let allShown = false;

function showAccounts() {
	const all = [...accounts.values()];
	const states = new Map();
	for (const a of all) {
		states.set(a.state, (states.get(a.state) || 0) + 1);
	}
	put($("accounts-sum"), [...states].map(([state, n]) => `${count(n)} ${state}`).join(", "));
	const wanted = $("find").value.trim().toLowerCase();
	$("find-label").hidden = all.length <= 8 && !wanted;
	const found = wanted ? all.filter((a) => JSON.stringify([a.name, a.endpoint, a.state, a.keys?.map((k) => [k.key, k.state]), a.models?.map((m) => [m.model, m.state])]).toLowerCase().includes(wanted)) : all;
	found.sort((a, b) => rank(a) - rank(b)); // stable: else the order is the server's
	const shown = allShown ? found : found.slice(0, shownAtMost);
	list($("accounts"), shown, (a) => a.name, accountBody);
	const more = found.length - shown.length;
	$("accounts-all").hidden = more <= 0 && !(allShown && found.length > shownAtMost);
	put($("accounts-all"), more > 0 ? `Show all ${count(found.length)}` : `Show the first ${shownAtMost}`);
	$("accounts-empty").hidden = shown.length > 0;
	put($("accounts-empty"), wanted ? "None is like that." : "There are no accounts.");
}

function accountBody(a) {
	// Each account has a place for each model that was ever asked for.
	const models = (a.models || []).filter((m) => m.in_flight || m.answered || m.refused || m.spent || (m.state !== "active" && m.state !== a.state));
	const inFlight = models.reduce((n, m) => n + m.in_flight, 0);
	const keys = make("ul", { class: "keys", "aria-label": "keys" }, ...(a.keys || []).map((k) => make("li", { "data-level": levelOf[k.state] },
		make("code", {}, "#" + k.key), k.state === "active" ? "" : make("span", {}, " " + k.state), ...(k.state === "active" ? [] : when(k, "tried again")))));
	const body = make("tbody", {}, make("tr", { class: "account" },
		make("th", { scope: "rowgroup" }, make("span", { class: "name" }, a.name), a.endpoint ? make("span", { class: "sub" }, "at " + a.endpoint) : "", keys),
		make("td", { class: "sum" }, models.length > 1 ? count(inFlight) : ""),
		make("td", {}, pill(a.state), make("div", { class: "when" }, ...(a.state === "active" ? [] : when(a, "tried again")))),
		make("td", { class: "num opt" }, models.length > 1 ? count(models.reduce((n, m) => n + m.answered, 0)) : ""),
		make("td", { class: "num opt" }, models.length > 1 ? count(models.reduce((n, m) => n + m.refused, 0)) : ""),
		make("td", { class: "num opt" }, models.length > 1 ? money(a.spent) : ""),
		make("td", { class: "num opt" }, models.length > 1 ? money(a.saved) : "")));
	for (const m of models) {
		const meter = make("div", { class: "bar", role: "meter", "aria-label": `in flight of the limit, ${m.model}`, "aria-valuemin": 0 }, make("i"));
		bar(meter, m.in_flight, m.limit);
		const aside = m.state !== "active" && m.state !== a.state;
		body.append(make("tr", { class: "model" }, make("th", { scope: "row" }, m.model || "no model"),
			make("td", {}, make("span", { class: "of" }, make("b", {}, count(m.in_flight)), " / " + count(m.limit)), meter),
			make("td", {}, aside ? pill(m.state) : "", make("div", { class: "when" }, ...(aside ? when(m, "again") : []))),
			make("td", { class: "num opt" }, count(m.answered)), make("td", { class: "num opt" }, count(m.refused)),
			make("td", { class: "num opt" }, money(m.spent)), make("td", { class: "num opt" }, money(m.saved))));
	}
	if (models.length === 0) {
		body.append(make("tr", { class: "model" }, make("th", { scope: "row", class: "none" }, "nothing answered yet"), make("td"), make("td"),
			...[1, 2, 3, 4].map(() => make("td", { class: "opt" }))));
	}
	return body;
}

const circuitsShown = 12;

function showCircuits() {
	const order = ["open", "half-open", "recovering", "closed"];
	const every = news.circuits || [], all = [...every].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state)).slice(0, circuitsShown);
	list($("circuits").tBodies[0], all, (c) => JSON.stringify([c.endpoint, c.model]), (c) => make("tr", {},
		make("th", { scope: "row" }, make("span", { class: "name" }, c.endpoint), make("span", { class: "sub" }, c.model || "no model"),
			c.first ? make("span", { class: "sub" }, "first data after " + took(c.first) + (c.faults >= 0.01 ? ", " + percent(c.faults, 1) + " fail" : "")) : ""),
		make("td", {}, pill(c.state), make("div", { class: "when" }, ...(c.state === "closed" ? [] : when(c, "tried again"))))));
	$("circuits").hidden = all.length === 0;
	$("circuits-empty").hidden = all.length > 0 && all.length === every.length;
	put($("circuits-empty"), all.length ? `and ${every.length - all.length} more` : "Nothing was sent yet.");
}

function showClients() {
	const all = news.clients || [];
	$("clients-card").hidden = all.length === 0;
	list($("clients").tBodies[0], all, (c) => c.name, (c) => make("tr", {},
		make("th", { scope: "row" }, c.name), make("td", { class: "num" }, count(c.in_flight)), make("td", { class: "num" }, money(c.spent))));
}

function showJournal() {
	const latest = [...journal.values()].sort((a, b) => b.at - a.at || b.n - a.n);
	for (const old of latest.splice(60)) {
		journal.delete(old.n);
	}
	list($("journal"), latest.slice(0, 9), (e) => e.n, (e) => make("li", { "data-level": e.level },
		make("time", {}, clock(e.at)), make("span", {}, e.text, e.times > 1 ? make("b", {}, " ×" + count(e.times)) : "")));
	$("journal-empty").hidden = latest.length > 0;
}

// --- recent requests

const callsShown = 25;
let paused = null; // the requests that are shown, while it is paused
let onlyTrouble = false;
const open = new Map(); // those that are opened, by their ids: numbers begin anew when the gateway does

const smoothly = (c) => c.outcome === "answered" && !(c.trail || []).some((a) => !["ok", "lost", "left"].includes(a.kind));

function showCalls() {
	let latest = paused || [...calls.values()].reverse();
	if (onlyTrouble) {
		latest = latest.filter((c) => !smoothly(c));
	}
	latest = latest.slice(0, callsShown);
	for (const c of open.values()) { // what somebody reads stays
		if (!latest.some((other) => other.id === c.id)) { // it may have been sent again
			latest.push(c);
		}
	}
	const rows = latest.flatMap((c) => (open.has(c.id) ? [{ c }, { c, detail: true }] : [{ c }]));
	list($("calls").tBodies[0], rows, (r) => r.c.id + (r.detail ? "+" : ""), (r) => (r.detail ? detailRow(r.c) : callRow(r.c)));
	for (const button of $("calls").querySelectorAll("button[data-call]")) {
		mark(button, "aria-expanded", open.has(button.dataset.call));
	}
	put($("calls-sum"), paused ? "paused" : "");
	$("calls").hidden = rows.length === 0;
	$("calls-empty").hidden = rows.length > 0;
	put($("calls-empty"), onlyTrouble && calls.size ? "None of the last requests had any trouble." : "No requests yet.");
}

const outcomeLevel = { answered: "good", refused: "note", rejected: "note", "client left": "off", failed: "bad" };
const kinds = {
	ok: "answered", limited: "too many at a time (429)", key: "key or account refused", fault: "failed", lost: "another attempt was first",
	left: "given up", rejected: "rejected",
};

function callRow(c) {
	const trail = c.trail || [], inWords = trail.map((a) => kinds[a.kind]).join(", then ");
	const dots = (more) => make("span", { class: "dots" + more, title: inWords, "aria-hidden": "true" },
		...trail.map((a) => make("i", { "data-kind": a.kind })), c.more ? "+" + c.more : "");
	return make("tr", { class: "call" },
		make("th", { scope: "row" }, make("button", { type: "button", class: "open", "data-call": c.id, "aria-expanded": "false", "aria-controls": "call-" + c.id }, clock(c.at))),
		make("td", {}, make("span", { class: "name" }, c.model || c.path), c.client ? make("span", { class: "sub" }, c.client) : ""),
		make("td", {}, pill(c.outcome === "answered" ? String(c.status) : c.outcome, outcomeLevel[c.outcome]),
			dots(" small"), c.outcome === "answered" ? "" : make("span", { class: "sub" }, c.code || (c.status ? String(c.status) : ""))),
		make("td", { class: "tries" }, dots(""), make("span", { class: "unseen" }, inWords || "none")),
		make("td", { class: "num opt" }, c.first ? took(c.first) : ""),
		make("td", { class: "num" }, took(c.took)),
		make("td", { class: "num opt" }, c.hit || c.miss || c.output ? count((c.hit || 0) + (c.miss || 0)) + " → " + count(c.output || 0) : ""),
		make("td", { class: "num opt" }, c.cost ? (c.guess ? "~" : "") + money(c.cost, 6) : ""));
}

function detailRow(c) {
	const facts = [
		["request", c.id], ["path", c.path + (c.stream ? " (stream)" : "")], ["client", c.client], ["refused for", c.code],
		["first data", c.first ? took(c.first) : ""], ["took", took(c.took)],
		["prompt", c.hit || c.miss ? `${some((c.hit || 0) + (c.miss || 0), "token")}, ${count(c.hit || 0)} of them cached` : ""],
		["answer", c.output ? some(c.output, "token") : ""], ["cost", c.cost ? (c.guess ? "about " : "") + money(c.cost, 6) : ""],
		["response cache", c.cache], ["error", c.error],
	].filter(([, value]) => value);
	const trail = make("ol", { class: "trail" }, ...(c.trail || []).map((a) => make("li", { "data-kind": a.kind },
		a.wait ? make("span", { class: "wait" }, "waited " + took(a.wait)) : "",
		make("b", {}, (a.status ? a.status + " " : "") + (kinds[a.kind] || a.kind)),
		make("span", { class: "where" }, [a.endpoint, a.account && a.account + (a.key ? " #" + a.key : ""), a.model, a.note].filter(Boolean).join(" · ")),
		make("span", {}, "in " + took(a.took)),
		a.error ? make("span", { class: "error" }, a.error) : "",
		a.trace ? make("code", { title: "trace id" }, a.trace) : "")));
	return make("tr", { class: "detail", id: "call-" + c.id }, make("td", { colspan: 8 },
		make("dl", {}, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
		c.trail ? trail : make("p", { class: "empty" }, "Nothing was sent to DeepSeek."),
		c.more ? make("p", { class: "empty" }, `and ${some(c.more, "attempt")} more`) : ""));
}

// --- what is done by hand

$("calls").addEventListener("click", (e) => {
	const row = e.target.closest("tr.call");
	if (!row || getSelection().toString()) {
		return;
	}
	const id = row.querySelector("button").dataset.call;
	if (!open.delete(id)) {
		open.set(id, (paused || [...calls.values()]).find((c) => c.id === id));
	}
	showCalls();
});

$("only").addEventListener("click", () => {
	onlyTrouble = !onlyTrouble;
	mark($("only"), "aria-pressed", onlyTrouble);
	showCalls();
});

$("pause").addEventListener("click", () => {
	paused = paused ? null : [...calls.values()].reverse();
	mark($("pause"), "aria-pressed", paused !== null);
	put($("pause"), paused ? "Go on" : "Pause");
	showCalls();
});

$("find").addEventListener("input", showAccounts);
$("accounts-all").addEventListener("click", () => {
	allShown = !allShown;
	showAccounts();
});

const themes = ["auto", "dark", "light"];
const showTheme = () => put($("theme"), "Theme: " + root.dataset.theme);
$("theme").addEventListener("click", () => {
	root.dataset.theme = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
	try {
		localStorage.setItem("theme", root.dataset.theme);
	} catch { /* for this time, then */ }
	showTheme();
	redraw();
});
const redraw = () => Object.values(plots).forEach((plot) => plot.draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
showTheme();

// --- time

function tick() {
	for (const e of document.querySelectorAll("[data-until]")) {
		put(e, left(Number(e.dataset.until)));
	}
	for (const e of document.querySelectorAll("[data-since]")) {
		put(e, lasts(now() - Number(e.dataset.since)));
	}
}

// --- the stream

const lateAfter = 4000; // ms without news: they come each second
const deadAfter = 12000; // the connection may be there still, and lead nowhere
const hiddenFor = 60000; // a page that nobody looks at gives its place up

let source = null;
let dialled = 0; // when the stream was asked for
let again = 0; // timer
let vain = 0; // attempts in vain

const says = {
	connecting: "connecting", live: "live", lost: "connection lost", busy: "too many viewers", away: "not connected while hidden",
};

function link(state) {
	mark(root, "data-link", state);
	put($("link-text"), says[state]);
	telling();
}

// telling says how old what is shown is. What was well then is not known to be so.
function telling() {
	const state = root.dataset.link, stale = state === "lost" || state === "busy";
	$("lost").hidden = !stale;
	if (stale && news && $("outlook").dataset.level !== "none") {
		mark($("outlook"), "data-level", "none");
		put($("outlook").querySelector(".sign"), "?");
		put($("verdict"), "Not known");
		put($("lately"), `It was: ${news.outlook.text}.`);
		document.title = "? – Seawall";
	}
	if (stale) {
		const as = heard ? ` What is shown is of ${clock(heard + ahead)}, ${lasts(Date.now() - heard)} ago.` : "";
		put($("lost"), (state === "busy" ? "As many are watching as may; this page waits for a place." : "Connection lost, reconnecting.") + as);
	}
}

function connect() {
	clearTimeout(again);
	source?.close();
	dialled = Date.now();
	source = new EventSource("events");
	source.onmessage = (e) => {
		vain = 0;
		take(JSON.parse(e.data));
		link("live");
	};
	source.addEventListener("busy", () => link("busy"));
	source.onerror = () => {
		if (root.dataset.link !== "busy") {
			link("lost");
		}
		if (source.readyState === EventSource.CLOSED) { // an answer that is no stream: the browser has given up, we do not
			vain++;
			again = setTimeout(connect, Math.min(15000, 1000 * 2 ** vain) * (0.7 + 0.3 * Math.random()));
		}
	};
}

setInterval(() => {
	if (news) {
		tick();
	}
	const quiet = Date.now() - Math.max(heard, dialled);
	if (root.dataset.link === "live" && quiet > lateAfter) {
		link("lost");
	}
	if (root.dataset.link === "lost" && quiet > deadAfter && source.readyState === EventSource.OPEN) {
		connect();
	}
	telling();
}, 500);

let hiding = 0;
document.addEventListener("visibilitychange", () => {
	clearTimeout(hiding);
	if (document.hidden) {
		hiding = setTimeout(() => {
			clearTimeout(again);
			source.close();
			link("away");
		}, hiddenFor);
	} else if (root.dataset.link === "away") {
		connect();
	}
});

connect();
