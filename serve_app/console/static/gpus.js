// Machines, their GPUs, and which replicas share which.

import { h, number } from "./dom.js";

const LOOK_MS = 5000;
const COLOURS = ["s1", "s3", "s4", "s2", "s6"];
const size = (gib) => {
  if (gib === null || gib === undefined) return "–";
  return gib && gib < 0.5 ? `${number(gib * 1024)} MiB` : `${number(gib, gib < 10 ? 1 : 0)} GiB`;
};

export function show(page, ask) {
  const problem = h("p", { class: "problem", role: "alert" });
  const nodes = h("div", { class: "nodes" });
  page.append(h("h2", {}, "Machines and GPUs"), problem, nodes);

  async function look() {
    try {
      const told = await ask("gpus");
      problem.textContent = "";
      const models = [...new Set(told.nodes.flatMap((one) => [...one.gpus.flatMap((gpu) => gpu.replicas), ...one.cpu].map((replica) => replica.model)))].sort();
      const colour = (model) => COLOURS[models.indexOf(model) % COLOURS.length];
      nodes.replaceChildren(...(told.nodes.length ? told.nodes.map((one) => node(one, colour)) : [h("p", { class: "empty list" }, "No replica is ready yet.")]));
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  const timer = setInterval(() => document.hidden || look(), LOOK_MS);
  look();
  return () => clearInterval(timer);
}

function node(one, colour) {
  return h("section", { class: "node" },
    h("header", { class: "row wrap" }, h("h3", {}, one.host), h("span", { class: "soft" }, one.address === one.host ? "" : one.address),
      h("span", { class: "soft" }, one.gpus.length ? `${one.gpus.length} ${one.gpus.length === 1 ? "GPU" : "GPUs"}` : "no GPU")),
    one.problem && h("p", { class: "problem" }, one.problem),
    h("div", { class: "cards" }, one.gpus.map((gpu) => card(gpu, colour)), one.cpu.length ? cpu(one.cpu, colour) : null));
}

function card(gpu, colour) {
  const planned = gpu.replicas.reduce((sum, one) => sum + (one.planned.budget_gib ?? 0), 0);
  const bar = (parts, title) => {
    const line = h("div", { class: "progress thick", title });
    for (const [width, name] of parts) {
      const part = h("i", { class: name });
      part.style.width = `${gpu.total_gib ? (100 * width) / gpu.total_gib : 0}%`;
      line.append(part);
    }
    return line;
  };
  return h("article", { class: "panel gpu" },
    h("div", { class: "row" }, h("strong", {}, `GPU ${gpu.index}`), h("span", { class: "space" }), h("span", { class: "soft number" }, size(gpu.total_gib))),
    h("div", {}, h("div", { class: "soft number" }, `planned ${size(planned)}`), bar(gpu.replicas.map((one) => [one.planned.budget_gib ?? 0, colour(one.model)]), "memory that its replicas may take")),
    h("div", {}, h("div", { class: "soft number" }, `in use ${size(gpu.used_gib)}`), bar([[gpu.used_gib, "used"]], "as the driver says, whoever uses it")),
    gpu.replicas.length ? h("ul", { class: "plain" }, gpu.replicas.map((one) => replica(one, colour))) : h("p", { class: "soft" }, "no replica"));
}

function cpu(replicas, colour) {
  return h("article", { class: "panel gpu" }, h("div", { class: "row" }, h("strong", {}, "CPU")), h("ul", { class: "plain" }, replicas.map((one) => replica(one, colour))));
}

function replica(one, colour) {
  const { gpu_share: share, weights_gib: weights, kv_gib: kv, cpus } = one.planned;
  const facts = [
    share ? `${number(share, 3)} of it` : cpus === undefined ? null : `${number(cpus, 2)} cores reserved`,
    weights ? `weights ${size(weights)}` : null,
    kv ? `KV cache ${size(kv)}` : null,
    one.asleep ? "asleep" : null,
  ].filter(Boolean);
  return h("li", {}, h("span", { class: `key ${colour(one.model)}` }, h("b", {}, one.model), " ", h("code", {}, one.id)), h("span", { class: "soft" }, facts.join(" · ")));
}
