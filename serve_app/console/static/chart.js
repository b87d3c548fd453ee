// A plot over the last minutes: uPlot with this page's colours, a legend that tells values, and marks.

import { h } from "./dom.js";

const HEIGHT = 150;
const FONT = "11px system-ui, sans-serif";
const sync = () => window.uPlot.sync("console");
const charts = new Set();
const minute = (at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/**
 * {element, draw(at, columns, marks), remove()}.
 *
 * `lines` are {label, colour: "s1".., dashed, filled}; `say` makes a text of a value; `highest` is the least that the
 * scale goes up to. Marks are {at, text}: a vertical line each, with its text at the top.
 */
export function chart(title, lines, say, { highest = 0, whole = false, hint = "" } = {}) {
  const values = lines.map(() => h("b", {}, "–"));
  const legend = lines.map((line, index) => h("span", { class: `key ${line.colour}` }, line.label, " ", values[index]));
  const place = h("div", { class: "plot" });
  const element = h("figure", { class: "chart" }, h("figcaption", {}, h("h3", { title: hint }, title), h("div", { class: "keys" }, legend)), place);
  const self = { element, plot: null, data: null, marks: [], span: [0, 1], make, draw, remove };

  function make() {
    self.plot?.destroy();
    self.plot = null;
    if (!window.uPlot || !place.clientWidth) return;
    const grid = { stroke: colour("line"), width: 1 };
    const axis = { stroke: colour("faint"), font: FONT, grid, ticks: { show: false } };
    self.plot = new window.uPlot({
      width: place.clientWidth,
      height: HEIGHT,
      padding: [14, 6, 0, 0],
      cursor: { sync: { key: sync().key }, points: { size: 6 }, drag: { x: false, y: false } },
      legend: { show: false },
      scales: { x: { range: () => self.span }, y: { range: (_, __, top) => [0, Math.max(top * 1.15, highest) || 1] } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, space: 64, values: (_, at) => at.map(minute) },
        { ...axis, size: 54, space: 34, gap: 6, incrs: whole ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] : undefined, values: (_, at) => at.map(say) },
      ],
      series: [{}, ...lines.map((line) => ({
        stroke: colour(line.colour), width: 1.6, dash: line.dashed ? [5, 4] : undefined,
        fill: line.filled ? `${colour(line.colour)}22` : undefined, points: { show: false },
        paths: whole ? window.uPlot.paths.stepped({ align: 1 }) : undefined,
      }))],
      hooks: { draw: [drawMarks], setCursor: [tell] },
    }, self.data ?? [[], ...lines.map(() => [])], place);
    tell(self.plot);
  }

  function tell(plot) {
    const column = plot.cursor.idx ?? plot.data[0].length - 1;
    values.forEach((value, index) => {
      const found = plot.data[index + 1]?.[column];
      value.textContent = found === null || found === undefined ? "–" : say(found);
    });
  }

  function drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("accent");
    ctx.textAlign = "left";
    ctx.textBaseline = "bottom";
    ctx.font = `${10 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    let free = -Infinity;
    for (const { at, text } of self.marks) {
      if (at < self.span[0]) continue;
      const x = Math.round(plot.valToPos(at, "x", true));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(text).width;
      const left = Math.min(Math.max(x - width / 2, bbox.left), bbox.left + bbox.width - width);
      if (left > free) {
        ctx.fillText(text, left, bbox.top - 3 * devicePixelRatio);
        free = left + width + 4 * devicePixelRatio;
      }
    }
    ctx.restore();
  }

  function draw(span, at, columns, marks = []) {
    self.span = span;
    self.marks = marks;
    self.data = [at, ...columns];
    if (!self.plot) make();
    self.plot?.setData(self.data);
    if (self.plot && self.plot.cursor.idx === null) tell(self.plot);
  }

  function remove() {
    charts.delete(self);
    watcher.unobserve(place);
    self.plot?.destroy();
  }

  place.self = self;
  charts.add(self);
  watcher.observe(place);
  return self;
}

const watcher = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    const { plot, data, make } = target.self;
    if (plot) plot.setSize({ width: target.clientWidth, height: HEIGHT });
    else if (data) make();
  }
});
const again = () => charts.forEach((one) => one.data && one.make());
window.addEventListener("themechange", again);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
