// A load test on this service, started here and watched on the live plots.

import { key, ServiceError } from "./api.js";
import { duration, h } from "./dom.js";
import { follow } from "./live.js";
import { models } from "./models.js";

const LOOK_MS = 1500;
const SHAPES = {
  ramp: { about: "a straight line", fields: { from: 0, to: 20, duration: 120 } },
  steady: { about: "the same all the time", fields: { rate: 2, duration: 60 } },
  steps: { about: "equal steps up", fields: { from: 1, to: 8, steps: 4, duration: 120 } },
  spike: { about: "a jump up, and down again", fields: { base: 1, peak: 12, at: 30, for: 60, duration: 150 } },
  bursts: { about: "off and on", fields: { peak: 12, on: 5, off: 15, base: 1, duration: 120 } },
  day: { about: "from the quietest hour round to it again", fields: { base: 1, peak: 8, duration: 300 } },
};
const SECONDS = new Set(["duration", "at", "for", "on", "off"]);
const SCENARIOS = { chat: "questions with nothing in common", conversation: "several turns each", "shared-prefix": "after a few long system prompts", vision: "about images" };

export function show(page, ask) {
  const model = h("select", { name: "model", "aria-label": "Model" });
  const shape = h("select", { "aria-label": "Shape", onchange: () => fields() }, Object.entries(SHAPES).map(([name, one]) => h("option", { value: name }, `${name}: ${one.about}`)));
  const numbers = h("div", { class: "fields" });
  const scenario = h("select", {}, Object.entries(SCENARIOS).map(([name, about]) => h("option", { value: name }, `${name}: ${about}`)));
  const field = (label, input) => h("label", { class: "field" }, h("span", {}, label), input);
  const number = (value) => h("input", { type: "number", min: 0, step: "any", value, required: true });
  const prompt = number(64), output = number(128);
  const slo = h("input", { type: "text", value: "ttft_p95=1s,tpot_p95=100ms", spellcheck: false });
  const go = h("button", { class: "primary" }, "Start");
  const problem = h("p", { class: "problem", role: "alert" });
  const state = h("span", { class: "soft" });
  const said = h("pre", { class: "code report" });
  const form = h("form", { class: "panel", onsubmit: (event) => (event.preventDefault(), running ? act("DELETE") : act("POST", asked())) },
    field("Model", model), field("Requests a second", shape), numbers, field("What is asked", scenario),
    h("div", { class: "fields" }, field("Prompt, tokens", prompt), field("Answer, tokens", output)), field("Good service is", slo),
    h("div", { class: "row" }, go, state), problem);
  const plots = h("div", {});
  /** The model of each name that can be chosen. */
  const modelOf = new Map();
  let running = false;
  page.append(h("h2", {}, "Load test"), h("div", { class: "split" }, form, h("div", { class: "watch" }, plots, said)));
  const stopFollowing = follow(plots, ask, () => modelOf.get(model.value), ["Requests a second", "Time to first token", "Tokens a second", "Replicas"]);

  function fields() {
    numbers.replaceChildren(...Object.entries(SHAPES[shape.value].fields).map(([name, value]) => field(SECONDS.has(name) ? `${name}, s` : name, Object.assign(number(value), { name }))));
  }

  function asked() {
    const values = [...numbers.querySelectorAll("input")].map((input) => `${input.name}=${input.value}`);
    return { model: model.value, traffic: `${shape.value}:${values.join(",")}`, scenario: scenario.value, prompt: Number(prompt.value), output: Number(output.value), slo: slo.value, api_key: key.get() ?? "" };
  }

  async function act(method, body) {
    go.disabled = true;
    try {
      problem.textContent = "";
      draw(await ask("load", { method, body }));
    } catch (error) {
      problem.textContent = error.message;
    }
    go.disabled = false;
  }

  async function look() {
    try {
      draw(await ask("load"));
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
    }
  }

  function draw(told) {
    running = told.running;
    go.textContent = running ? "Stop" : "Start";
    go.classList.toggle("stop", running);
    go.disabled = !told.installed;
    if (!told.installed) problem.textContent = "Locust is not installed where the console runs: install the extra `load`.";
    for (const input of form.querySelectorAll("input, select")) input.disabled = running;
    const since = told.began && duration(Math.max(0, (told.ended ?? Date.now() / 1000) - told.began));
    state.textContent = running ? `running for ${since}` : told.began ? `ended after ${since}` : "";
    said.hidden = !told.said.length;
    const report = told.said.findLastIndex((line) => line.startsWith("LLM load test"));
    said.textContent = (report >= 0 ? told.said.slice(report) : told.said.slice(-12)).join("\n");
  }

  fields();
  models(ask).then((told) => {
    const chat = told.filter((one) => one.kind !== "embedding");
    for (const one of chat) modelOf.set(one.id, one.adapterOf ?? one.id);
    model.replaceChildren(...chat.map((one) => h("option", { value: one.id }, one.id)));
  }, (error) => (problem.textContent = error.message));
  const timer = setInterval(() => document.hidden || look(), LOOK_MS);
  look();
  return () => {
    clearInterval(timer);
    stopFollowing();
  };
}
