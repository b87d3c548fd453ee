// What each key has used, by day and model.

import { json } from "./api.js";
import { h, number } from "./dom.js";

const COUNTS = [["requests", "requests"], ["prompt_tokens", "prompt tokens"], ["cached_tokens", "of them cached"], ["output_tokens", "output tokens"]];
const GROUPS = { day: "By day", key: "By key", model: "By model" };
const SPANS = [[7, "7 days"], [30, "30 days"], [90, "90 days"]];

export function show(page) {
  const span = h("select", { "aria-label": "Span", onchange: look }, SPANS.map(([days, label]) => h("option", { value: days }, label)));
  const group = h("select", { "aria-label": "Grouped", onchange: draw }, Object.entries(GROUPS).map(([value, label]) => h("option", { value }, label)));
  const totals = h("div", { class: "totals" });
  const table = h("div", { class: "list" });
  let rows = [];
  page.append(h("header", { class: "row" }, h("h2", {}, "Usage"), h("span", { class: "space" }), group, span), totals, table);

  async function look() {
    const from = new Date(Date.now() - (span.value - 1) * 86_400_000).toISOString().slice(0, 10);
    try {
      rows = (await json(`v1/usage?from=${from}`)).data;
      draw();
    } catch (error) {
      totals.replaceChildren();
      table.replaceChildren(h("p", { class: "empty" }, error.message));
    }
  }

  function draw() {
    const sum = (some) => Object.fromEntries(COUNTS.map(([name]) => [name, some.reduce((total, row) => total + row[name], 0)]));
    const all = sum(rows);
    totals.replaceChildren(...COUNTS.map(([name, label]) => h("div", {}, h("b", {}, number(all[name])), h("span", { class: "soft" }, label))));
    if (!rows.length) return void table.replaceChildren(h("p", { class: "empty" }, "Nothing was used in this span."));
    const groups = Object.entries(Object.groupBy(rows, (row) => row[group.value] ?? "no name"));
    const sums = groups.map(([name, some]) => [name, sum(some)]);
    const weight = (one) => one.prompt_tokens + one.output_tokens;
    const most = Math.max(1, ...sums.map(([, one]) => weight(one)));
    if (group.value === "day") sums.sort(([one], [other]) => (one < other ? 1 : -1));
    else sums.sort(([, one], [, other]) => weight(other) - weight(one));
    const line = ([name, one]) => {
      const bar = h("div", { class: "progress" }, h("i", {}));
      bar.firstChild.style.width = `${(100 * weight(one)) / most}%`;
      return h("tr", {}, h("th", { scope: "row" }, name), COUNTS.map(([count]) => h("td", {}, number(one[count]))), h("td", { class: "wide" }, bar));
    };
    table.replaceChildren(h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, GROUPS[group.value].slice(3)), COUNTS.map(([, label]) => h("th", {}, label)), h("th", { class: "wide" }))), h("tbody", {}, sums.map(line)))));
  }

  look();
}
