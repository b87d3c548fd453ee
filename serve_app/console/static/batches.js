// Files of requests: how far each batch is, its results, and new ones.

import { json, request, ServiceError } from "./api.js";
import { h, number } from "./dom.js";

const LOOK_MS = 3000;
const OPEN = new Set(["validating", "in_progress", "finalizing"]);
const KINDS = { completed: "good", in_progress: "warn", validating: "warn", finalizing: "warn", failed: "bad", expired: "bad" };

export function show(page) {
  const problem = h("p", { class: "problem", role: "alert" });
  const list = h("div", { class: "list" });
  const file = h("input", { type: "file", accept: ".jsonl,application/jsonl", class: "offscreen", tabIndex: -1, onchange: () => begin(file.files[0]) });
  const start = h("button", { class: "primary", onclick: () => file.click() }, "New batch");
  page.append(
    h("header", { class: "row" }, h("h2", {}, "Batches"), h("span", { class: "space" }), start, file),
    problem,
    list,
  );

  async function look() {
    try {
      const told = await json("v1/batches?limit=50");
      start.hidden = false;
      list.replaceChildren(...(told.data.length ? told.data.map(row) : [h("p", { class: "empty" }, "No batch yet. A file has a JSON object a line, each a request with its custom_id, method, url and body.")]));
    } catch (error) {
      start.hidden = error instanceof ServiceError && error.code === "batch_api_off";
      list.replaceChildren(h("p", { class: "empty" }, error.message));
    }
  }

  async function act(what) {
    problem.textContent = "";
    try {
      await what();
    } catch (error) {
      problem.textContent = error.message;
    }
    look();
  }

  const begin = (chosen) => chosen && act(async () => {
    const first = (await chosen.slice(0, 2 ** 20).text()).split("\n", 1)[0];
    let endpoint;
    try {
      endpoint = JSON.parse(first).url;
    } catch {
      throw new Error(`the first line of ${chosen.name} is no JSON`);
    }
    const form = new FormData();
    form.append("purpose", "batch");
    form.append("file", chosen);
    start.disabled = true;
    try {
      const uploaded = await json("v1/files", { method: "POST", form });
      await json("v1/batches", { method: "POST", body: { input_file_id: uploaded.id, endpoint, completion_window: "24h" } });
    } finally {
      start.disabled = false;
      file.value = "";
    }
  });

  function row(batch) {
    const { total, completed, failed } = batch.request_counts;
    const part = (count) => `${total ? (100 * count) / total : 0}%`;
    const bar = h("div", { class: "progress", title: `${completed} of ${total} done, ${failed} failed` }, h("i", {}), h("i", { class: "bad" }));
    bar.children[0].style.width = part(completed);
    bar.children[1].style.width = part(failed);
    const fetched = (id, name) => id && h("button", { class: "link", onclick: () => act(() => download(id, `${batch.id}-${name}.jsonl`)) }, name);
    return h(
      "article",
      { class: "item" },
      h("div", { class: "row wrap" },
        h("span", { class: `badge ${KINDS[batch.status] ?? ""}` }, batch.status.replace("_", " ")), h("code", {}, batch.id),
        h("span", { class: "soft" }, [batch.endpoint, batch.key, new Date(batch.created_at * 1000).toLocaleString()].filter(Boolean).join(" · ")),
        h("span", { class: "space" }),
        fetched(batch.output_file_id, "output"), fetched(batch.error_file_id, "errors"),
        OPEN.has(batch.status) && h("button", { class: "link", onclick: () => act(() => json(`v1/batches/${batch.id}/cancel`, { method: "POST" })) }, "cancel")),
      total ? bar : null,
      h("div", { class: "soft number" }, total ? `${number(completed)} of ${number(total)} done${failed ? `, ${number(failed)} failed` : ""}` : "",
        (batch.errors?.data ?? []).map((error) => h("div", { class: "problem" }, error.message))),
    );
  }

  const timer = setInterval(() => document.hidden || look(), LOOK_MS);
  look();
  return () => clearInterval(timer);
}

async function download(id, name) {
  const answer = await request(`v1/files/${id}/content`);
  const address = URL.createObjectURL(await answer.blob());
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
