// How the playground asks: sliders that begin at the model's own defaults, tools and a schema as text.

import { h } from "./dom.js";

const SLIDERS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, neutral: 1, hint: "0 takes the likeliest token each time" },
  { name: "top_p", label: "Top p", min: 0.05, max: 1, step: 0.05, neutral: 1, hint: "the likeliest tokens that make up this share" },
  { name: "top_k", label: "Top k", min: 0, max: 200, step: 1, neutral: 0, hint: "so many of the likeliest tokens; 0 takes all" },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01, neutral: 0, hint: "tokens with at least this share of the likeliest one's probability" },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.8, max: 1.5, step: 0.01, neutral: 1, hint: "above 1 discourages what was said" },
];
const TOOLS = [{ type: "function", function: { name: "get_weather", description: "The weather in a city", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } } }];
const SCHEMA = { type: "object", properties: { answer: { type: "string" }, sure: { type: "boolean" } }, required: ["answer", "sure"] };

/** The panel, and `read()`: the fields of a request that it says, without those left as the model has them. Throws
 * SyntaxError for a text that is no JSON. */
export function settings() {
  const system = h("textarea", { rows: 2, placeholder: "none" });
  const sliders = SLIDERS.map(slider);
  const most = h("input", { type: "number", min: 1, placeholder: "until it ends" });
  const tools = json("Tools", TOOLS);
  const schema = json("JSON schema of the answer", SCHEMA);
  const element = h(
    "aside",
    { class: "settings" },
    h("label", { class: "field" }, h("span", {}, "System prompt"), system),
    h("section", {}, sliders.map((one) => one.element)),
    h("label", { class: "field" }, h("span", {}, "Most tokens"), most),
    tools.element,
    schema.element,
  );
  return {
    element,
    system: () => system.value.trim(),
    begin: (model) => {
      for (const one of sliders) one.begin(model.sampling);
      tools.element.hidden = !model.tools;
    },
    read: () => {
      const found = {};
      for (const one of sliders) if (one.moved()) found[one.name] = one.value();
      if (most.value) found.max_tokens = Number(most.value);
      if (!tools.element.hidden && tools.value()) found.tools = tools.value();
      if (schema.value()) found.response_format = { type: "json_schema", json_schema: { name: "answer", schema: schema.value() } };
      return found;
    },
  };
}

function slider({ name, label, min, max, step, neutral, hint }) {
  const id = `slider-${name}`;
  let first = neutral;
  const input = h("input", { id, type: "range", min, max, step, value: neutral, title: hint });
  const output = h("output", { htmlFor: id });
  const reset = h("button", { class: "link", title: "As the model has it", onclick: () => set(first) }, "reset");
  const show = () => {
    output.textContent = name === "top_k" && input.value === "0" ? "all" : input.value;
    reset.hidden = Number(input.value) === Number(first);
    input.style.setProperty("--part", `${((input.value - min) / (max - min)) * 100}%`);
  };
  const set = (value) => {
    input.value = value;
    show();
  };
  input.addEventListener("input", show);
  return {
    name,
    element: h("div", { class: "slider" }, h("div", { class: "row" }, h("label", { htmlFor: id, title: hint }, label), h("span", { class: "space" }), reset, output), input),
    begin: (sampling) => {
      set(sampling[name] ?? neutral);
      first = input.value;
      show();
    },
    moved: () => Number(input.value) !== Number(first),
    value: () => Number(input.value),
  };
}

function json(label, example) {
  const area = h("textarea", { rows: 5, spellcheck: false, class: "mono", "aria-label": label, placeholder: "none" });
  const problem = h("span", { class: "problem" });
  const check = () => {
    try {
      if (area.value.trim()) JSON.parse(area.value);
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  area.addEventListener("input", check);
  const fill = () => {
    area.value = JSON.stringify(example, null, 2);
    check();
  };
  return {
    element: h("details", { class: "field" }, h("summary", {}, label), area, h("div", { class: "row" }, h("button", { class: "link", onclick: fill }, "an example"), problem)),
    value: () => (area.value.trim() ? JSON.parse(area.value) : null),
  };
}
