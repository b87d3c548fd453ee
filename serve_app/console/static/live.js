// The last 15 minutes of each model: what was asked, how fast it was answered, and why replicas came and went.

import { chart } from "./chart.js";
import { clock, duration, h, number } from "./dom.js";

const LOOK_MS = 2000;
const WINDOW_S = 900;
const LEAST_S = 180;
/** Of a plot, however little is known yet. */
const rate = (value) => number(value, value < 10 ? 1 : 0);
const share = (value) => `${Math.round(value * 100)} %`;
const CHARTS = [
  { title: "Requests a second", say: rate, lines: [["answered", "s1", "answered"], ["refused", "s2", "refused"], ["failed", "s5", "failed"], ["left", "s6", "left"]], hint: "refused: 4xx and 503. left: the client went before its answer began" },
  { title: "Tokens a second", say: rate, lines: [["output", "s1", "output"], ["prompt", "s3", "prompt"]] },
  { title: "Time to first token", say: duration, percentiles: "ttft", hint: "as the engines count it, over the last 10 s" },
  { title: "Time from token to token", say: duration, percentiles: "tpot", hint: "as the engines count it, over the last 10 s" },
  { title: "Requests at a time", say: (value) => number(value), whole: true, highest: 4, lines: [["running", "s1", "running"], ["waiting", "s2", "queue"]] },
  { title: "KV cache", say: share, highest: 1, lines: [["in use", "s1", "kv"]], hint: "mean of the replicas" },
  { title: "Replicas", say: (value) => number(value), whole: true, highest: 2, marks: true, lines: [["serving", "s1", "ready"], ["wanted", "s4", "target"]] },
];

/** What is known of each model, kept while other pages are shown: {points, changes, ...}. */
const known = new Map();
let last = 0;
let chosen = null;

export function show(page, ask) {
  const cards = h("div", { class: "cards" });
  const name = h("h2", {});
  const why = h("p", { class: "soft" });
  const replicas = h("div", { class: "replicas" });
  const plots = h("div", {});
  page.append(cards, h("section", { class: "model" }, h("header", {}, name, why), replicas, plots));
  return follow(plots, ask, () => chosen, null, draw);

  function draw() {
    if (!known.has(chosen)) chosen = busiest();
    cards.replaceChildren(...[...known].map(([id, model]) => card(id, model, id === chosen, () => ((chosen = id), draw()))));
    const model = known.get(chosen);
    if (!model) return;
    name.textContent = chosen;
    const bounds = model.bounds ? `${model.bounds.min} to ${model.bounds.max} replicas` : "autoscaled";
    why.textContent = model.autoscaled ? `${bounds}. ${sentence(model.reason)}` : "A fixed number of replicas.";
    replicas.replaceChildren(...model.replicas.map((one) => replica(one, model)));
    plots.redraw();
  }
}

/**
 * Draws one model's plots into `place` and keeps them up to date; returns what ends that.
 *
 * `which()` is the model's id. `titles` are those of the plots, null for all of them, and what was decided below. `also`
 * is called before they are drawn.
 */
export function follow(place, ask, which, titles = null, also = () => place.redraw()) {
  const plots = CHARTS.filter((one) => !titles || titles.includes(one.title)).map((one) => [one, chart(one.title, lines(one), one.say, one)]);
  const decisions = h("ol", { class: "decisions" });
  const problem = h("p", { class: "problem", role: "alert" });
  place.append(problem, h("div", { class: "charts" }, plots.map(([, plot]) => plot.element),
    h("figure", { class: "chart" }, h("figcaption", {}, h("h3", {}, "Decisions")), decisions)));
  place.redraw = () => {
    const model = known.get(which());
    if (!model) return;
    const at = model.points.map((point) => point.at);
    const span = [Math.max(last - WINDOW_S, Math.min(at[0] ?? last, last - LEAST_S)), last];
    const marks = model.changes.map((one) => ({ at: one.at, text: `${one.from} → ${one.to}` }));
    for (const [one, plot] of plots) plot.draw(span, at, columns(one, model.points), marks);
    decisions.replaceChildren(...(model.changes.length ? model.changes.toReversed().map(decision) : [h("li", { class: "soft" }, "none in the last 15 minutes")]));
  };

  async function look() {
    try {
      take(await ask(`live?since=${last}`));
      problem.textContent = window.uPlot ? "" : "the chart library is missing here: install the package `youplot`";
      also();
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  const timer = setInterval(() => document.hidden || look(), LOOK_MS);
  also();
  look();
  return () => {
    clearInterval(timer);
    for (const [, plot] of plots) plot.remove();
  };
}

function lines({ lines, percentiles }) {
  if (percentiles) return [["p50", "s1"], ["p95", "s2"], ["p99", "s4"]].map(([label, colour]) => ({ label, colour }));
  return lines.map(([label, colour], index) => ({ label, colour, filled: index === 0, dashed: label === "wanted" }));
}

function columns({ lines, percentiles }, points) {
  if (percentiles) return [0, 1, 2].map((index) => points.map((point) => point[percentiles][index]));
  return lines.map(([, , name]) => points.map((point) => point[name] ?? null));
}

function take(told) {
  const first = told.now - WINDOW_S;
  for (const [id, model] of Object.entries(told.models)) {
    const before = known.get(id) ?? { points: [], changes: [] };
    const after = (kept) => kept.filter((one) => one.at > first);
    known.set(id, { ...model, points: after([...before.points, ...model.points]), changes: after(merged(before.changes, model.changes)) });
    last = Math.max(last, ...model.points.map((point) => point.at));
  }
  for (const id of known.keys()) if (!(id in told.models)) known.delete(id);
}

/** The oldest first, each once: a decision may be told twice, as it is looked up beside the points. */
function merged(before, more) {
  const all = new Map([...before, ...more].map((one) => [one.at, one]));
  return [...all.values()].sort((one, other) => one.at - other.at);
}

function busiest() {
  const tokens = ([, model]) => model.points.reduce((sum, point) => sum + point.output + point.prompt, 0);
  return [...known].sort((one, other) => tokens(other) - tokens(one))[0]?.[0];
}

function card(id, model, current, choose) {
  const now = model.points.at(-1);
  const fact = (label, value) => h("div", {}, h("dt", {}, label), h("dd", {}, value));
  return h("button", { class: "card", "aria-pressed": String(current), onclick: choose }, h("strong", {}, id),
    h("dl", {},
      fact("requests/s", now ? rate(now.answered) : "–"),
      fact("tokens/s", now ? rate(now.output) : "–"),
      fact("TTFT p95", duration(now?.ttft[1])),
      fact("replicas", now ? (now.ready === now.target ? number(now.ready) : `${now.ready} of ${now.target}`) : "–")));
}

function replica(one, model) {
  if (one.state === "starting") return h("div", { class: "replica starting" }, h("span", { class: "badge" }, "starting"), h("span", { class: "soft" }, model.ready_in_s ? `ready in ${Math.ceil(model.ready_in_s)} s` : ""));
  const load = (one.running + one.waiting) / Math.max(1, one.most);
  const meter = h("div", { class: "meter", title: `${one.running} running, ${one.waiting} waiting, ${one.most} at most` }, h("i", {}));
  meter.firstChild.style.width = share(Math.min(1, load)).replace(" ", "");
  return h("div", { class: `replica ${one.state}` },
    h("span", { class: "badge" }, one.state), h("code", {}, one.id),
    h("span", { class: "soft" }, [one.gpus?.length ? `GPU ${one.gpus.join(", ")}` : null, one.node].filter(Boolean).join(" · ")),
    meter, h("span", { class: "soft number" }, one.waiting ? `${one.running} + ${one.waiting}` : `${one.running}`));
}

function decision(one) {
  return h("li", {}, h("time", {}, clock(one.at)), h("b", {}, `${one.from} → ${one.to}`), h("span", {}, sentence(one.reason)));
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");
