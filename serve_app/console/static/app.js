// What stays while the pages change: tabs, theme, key, and how the service is.

import { SERVICE, key, own, ServiceError } from "./api.js";
import { h } from "./dom.js";
import * as batches from "./batches.js";
import * as gpus from "./gpus.js";
import * as live from "./live.js";
import * as loadtest from "./loadtest.js";
import * as playground from "./playground.js";
import * as usage from "./usage.js";

const PAGES = {
  playground: ["Playground", playground],
  live: ["Live", live],
  gpus: ["GPUs", gpus],
  load: ["Load test", loadtest],
  batches: ["Batches", batches],
  usage: ["Usage", usage],
};
const LOOK_MS = 5000;
const page = document.getElementById("page");
let leave = null;

function show() {
  const name = location.hash.slice(1) in PAGES ? location.hash.slice(1) : "playground";
  for (const tab of document.querySelectorAll("#tabs a")) {
    if (tab.hash === `#${name}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  leave?.();
  page.replaceChildren();
  page.className = name;
  document.title = `${PAGES[name][0]} · Console`;
  leave = PAGES[name][1].show(page, ask) ?? null;
}

/** One of the console's own pages; asks for a key where that is missing or not an admin's. */
async function ask(path, options) {
  for (;;) {
    try {
      return await own(path, options);
    } catch (error) {
      if (!(error instanceof ServiceError) || ![401, 403].includes(error.status)) throw error;
      await login(key.get() ? error.message : "");
    }
  }
}

let asking = null;

function login(problem) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("login");
    dialog.querySelector(".problem").textContent = problem;
    dialog.oncancel = (event) => event.preventDefault();
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      key.set(new FormData(event.target).get("key").trim());
      event.target.reset();
      dialog.close();
      asking = null;
      document.getElementById("key").hidden = false;
      resolve();
    };
    dialog.showModal();
  });
  return asking;
}

async function look() {
  const status = document.getElementById("status");
  try {
    const answer = await fetch(new URL("ready", SERVICE));
    const told = await answer.json();
    const down = Object.entries(told.models).filter(([, one]) => !one.ready && one.wanted).map(([name]) => name);
    const failing = Object.entries(told.models).filter(([, one]) => one.failed_starts).map(([name]) => name);
    status.className = `status ${failing.length ? "bad" : down.length ? "warn" : "good"}`;
    status.textContent = failing.length ? "failing" : down.length ? "starting" : "ready";
    status.title = failing.length ? `does not start: ${failing.join(", ")}` : down.length ? `not ready: ${down.join(", ")}` : "";
  } catch {
    status.className = "status bad";
    status.textContent = "no answer";
  }
}

function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("console-theme", dark ? "light" : "dark");
  window.dispatchEvent(new Event("themechange"));
}

const names = Object.entries(PAGES);
document.getElementById("tabs").append(...(names.length > 1 ? names.map(([name, [title]]) => h("a", { href: `#${name}` }, title)) : []));
document.getElementById("theme").addEventListener("click", toggleTheme);
const forget = document.getElementById("key");
forget.hidden = !key.get();
forget.title = "Forget the key, and ask for another";
forget.addEventListener("click", () => {
  key.set(null);
  location.reload();
});
window.addEventListener("hashchange", show);
look();
setInterval(() => document.hidden || look(), LOOK_MS);
// Whoever has no key is asked for it whatever page this is; what else is wrong, that page tells.
ask("models").then(show, show);
