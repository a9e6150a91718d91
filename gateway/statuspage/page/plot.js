// A plot of the last minutes: areas one on the other, and lines above them.

const span = 300; // seconds
const smooth = 5; // seconds that are averaged

export class Plot {
	// shapes are {name, color, at, line}: color is the name of a CSS variable, at takes
	// a point apart, and line says that it is a line and not an area.
	constructor(figure, shapes, format) {
		this.canvas = figure.querySelector("canvas");
		this.title = figure.querySelector("h2").textContent;
		this.shapes = shapes;
		this.format = format;
		this.values = shapes.map(() => []);
		this.legend = document.createElement("ul");
		this.legend.className = "legend";
		this.figures = shapes.map((s) => {
			const entry = document.createElement("li");
			const swatch = document.createElement("i");
			swatch.className = s.line ? "line" : "area";
			swatch.dataset.color = s.color;
			const value = document.createElement("b");
			entry.append(swatch, value, " " + s.name);
			this.legend.append(entry);
			return value;
		});
		figure.querySelector("figcaption").append(this.legend);
		this.hover = null;
		this.canvas.addEventListener("pointermove", (e) => this.point(e.offsetX / this.canvas.clientWidth));
		this.canvas.addEventListener("pointerleave", () => this.point(null));
		new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
	}

	point(at) {
		this.hover = at;
		this.draw();
	}

	// set takes the points of the last seconds, the newest last.
	set(points) {
		this.values = this.shapes.map((s) => {
			const raw = points.map(s.at);
			let sum = 0;
			return raw.map((v, i) => {
				sum += v - (i >= smooth ? raw[i - smooth] : 0);
				return Math.max(sum, 0) / Math.min(smooth, i + 1);
			});
		});
		this.draw();
	}

	draw() {
		const { canvas, values } = this;
		const box = canvas.parentElement, width = box.clientWidth, height = box.clientHeight, ratio = window.devicePixelRatio || 1;
		if (!width || !height) {
			return;
		}
		canvas.width = Math.round(width * ratio);
		canvas.height = Math.round(height * ratio);
		const css = getComputedStyle(canvas), ink = (name) => css.getPropertyValue(name).trim();
		const pen = canvas.getContext("2d");
		pen.scale(ratio, ratio);
		pen.font = "11px " + css.fontFamily;
		const foot = 16, head = 14, n = values[0].length;
		const stacks = [...values];
		let below = new Array(n).fill(0);
		this.shapes.forEach((s, k) => {
			if (!s.line) {
				below = below.map((b, i) => b + values[k][i]);
				stacks[k] = below;
			}
		});
		const most = nice(Math.max(0, ...stacks.map((list) => Math.max(0, ...list))));
		const x = (i) => width - ((n - 1 - i) / (span - 1)) * width;
		const y = (v) => height - foot - (v / most) * (height - foot - head);

		pen.strokeStyle = ink("--grid");
		pen.fillStyle = ink("--muted");
		pen.lineWidth = 1;
		for (const part of [0, 0.5, 1]) {
			const at = Math.round(y(most * part)) + 0.5;
			pen.beginPath();
			pen.moveTo(0, at);
			pen.lineTo(width, at);
			pen.stroke();
		}
		pen.textBaseline = "bottom";
		pen.textAlign = "left";
		pen.fillText(this.format(most), 0, y(most) - 1);
		pen.textBaseline = "alphabetic";
		for (const [text, align, at] of [["5 min ago", "left", 0], ["now", "right", width]]) {
			pen.textAlign = align;
			pen.fillText(text, at, height - 3);
		}
		const path = (list) => list.forEach((v, i) => (i ? pen.lineTo(x(i), y(v)) : pen.moveTo(x(i), y(v))));
		for (let k = this.shapes.length - 1; k >= 0 && n > 1; k--) { // the lower areas over the upper ones
			if (!this.shapes[k].line) {
				pen.beginPath();
				path(stacks[k]);
				pen.lineTo(x(n - 1), y(0));
				pen.lineTo(x(0), y(0));
				pen.fillStyle = ink(this.shapes[k].color);
				pen.fill();
			}
		}
		pen.lineWidth = 1.8;
		pen.lineJoin = "round";
		this.shapes.forEach((s, k) => {
			if (s.line && n > 1) {
				pen.beginPath();
				path(stacks[k]);
				pen.strokeStyle = ink(s.color);
				pen.stroke();
			}
		});
		this.tell(n, x, height - foot, ink);
	}

	// tell puts into the legend the values of now, or of where the pointer is.
	tell(n, x, bottom, ink) {
		let at = n - 1, when = "";
		if (this.hover !== null && n > 0) {
			at = Math.min(n - 1, Math.max(0, Math.round(n - 1 - (1 - this.hover) * (span - 1))));
			when = "−" + (n - 1 - at) + " s";
			const pen = this.canvas.getContext("2d");
			pen.fillStyle = ink("--ink");
			pen.fillRect(x(at), 0, 1, bottom);
			pen.textAlign = x(at) > 60 ? "right" : "left";
			pen.textBaseline = "top";
			pen.fillText(when, x(at) + (x(at) > 60 ? -4 : 5), 1);
		}
		const texts = this.figures.map((figure, k) => {
			const text = this.format(n ? this.values[k][at] : 0);
			if (figure.textContent !== text) {
				figure.textContent = text;
			}
			return text + " " + this.shapes[k].name;
		});
		if (!when) {
			this.canvas.setAttribute("aria-label", this.title + ", now: " + texts.join(", "));
		}
	}
}

// nice is the next round number.
function nice(v) {
	if (v <= 1) {
		return 1;
	}
	const size = 10 ** Math.floor(Math.log10(v));
	return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((m) => m * size).find((m) => m >= v * 0.999);
}
