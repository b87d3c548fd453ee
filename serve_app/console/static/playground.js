// Chat with a model: streamed, stopped, asked again, with what each answer took.

import { chat, timing } from "./chat.js";
import { copy, duration, h, number } from "./dom.js";
import { dataUrl } from "./images.js";
import { render } from "./markdown.js";
import { models as askable } from "./models.js";
import { settings } from "./settings.js";
import { curl, python, shown } from "./snippets.js";

const ASK = { text: ["What is this service?", "How do I start the service?"], vision: ["What colour is the square?"] };
const NEAR_END = 80;
/** Pixels from the end of a conversation within which it is followed as it grows. */

const turns = [];
/** {role, text, images, answer, model}: kept while other pages are shown. */
let running = null;

export function show(page, ask) {
  let models = [];
  const panel = settings();
  const model = h("select", { "aria-label": "Model", onchange: () => choose(model.value) });
  const about = h("span", { class: "soft about" });
  const talk = h("div", { class: "talk", "aria-live": "polite" });
  const pictures = h("div", { class: "pictures" });
  const note = h("div", { class: "problem", role: "alert" });
  const box = h("textarea", { rows: 1, placeholder: "Ask something", "aria-label": "Message", autofocus: true });
  const send = h("button", { class: "primary", onclick: () => (running ? running.abort() : say()) }, "Send");
  const file = h("input", { type: "file", accept: "image/*", multiple: true, class: "offscreen", tabIndex: -1, onchange: () => attach(file.files) });
  const add = h("button", { class: "quiet icon", title: "Add an image; or drop one anywhere", "aria-label": "Add an image", onclick: () => file.click() }, "+");
  const more = h("button", { class: "quiet only-narrow", onclick: () => page.classList.toggle("with-settings") }, "Settings");
  page.append(
    h(
      "section",
      { class: "chat" },
      h("div", { class: "bar" }, model, about, h("span", { class: "space" }),
        h("button", { class: "quiet", title: "This conversation as a request for the shell or for Python", onclick: code }, "Copy as code"),
        h("button", { class: "quiet", title: "Begin anew", onclick: clear }, "Clear"), more),
      talk,
      h("div", { class: "composer" }, pictures, note, h("div", { class: "row" }, add, file, box, send)),
      h("div", { class: "drop-hint" }, "Drop an image here"),
    ),
    panel.element,
  );

  const chosen = () => models.find((one) => one.id === model.value);

  function choose(id) {
    model.value = id;
    localStorage.setItem("console-model", id);
    const one = chosen();
    panel.begin(one);
    add.hidden = !models.some((other) => other.images);
    about.textContent = [
      one.adapterOf ? `adapter of ${one.adapterOf}` : null,
      one.ready ? `${one.ready} ${one.ready === 1 ? "replica" : "replicas"}` : "no replica yet",
      one.max_model_len ? `${number(one.max_model_len)} tokens of context` : null,
      one.images ? "reads images" : null,
      one.simulated ? "simulated: it answers filler" : null,
    ].filter(Boolean).join(" · ");
    draw();
  }

  async function attach(files) {
    note.textContent = "";
    if (!chosen()?.images) {
      const other = models.find((one) => one.images);
      if (!other) return void (note.textContent = "no model here reads images");
      choose(other.id);
    }
    for (const one of files) {
      try {
        const image = h("img", { src: await dataUrl(one), alt: one.name });
        const part = h("div", { class: "picture" }, image, h("button", { title: "Leave it out", "aria-label": `Leave ${one.name} out`, onclick: () => part.remove() }, "×"));
        pictures.append(part);
      } catch (error) {
        note.textContent = error.message;
      }
    }
    file.value = "";
    box.focus();
  }

  function body() {
    const system = panel.system();
    const messages = turns.filter((turn) => turn.role !== "assistant" || turn.text).map(message);
    if (system) messages.unshift({ role: "system", content: system });
    return { model: model.value, messages, stream: true, stream_options: { include_usage: true }, ...panel.read() };
  }

  function typed() {
    const images = [...pictures.querySelectorAll("img")].map((image) => image.src);
    const text = box.value.trim();
    return text || images.length ? { role: "user", text, images } : null;
  }

  function say() {
    const turn = typed();
    if (!turn || !chosen()) return;
    turns.push(turn);
    box.value = "";
    pictures.replaceChildren();
    grow();
    answer();
  }

  async function answer() {
    note.textContent = "";
    let asked;
    try {
      asked = body();
    } catch (error) {
      note.textContent = `not JSON: ${error.message}`;
      return;
    }
    const turn = { role: "assistant", text: "", images: [], answer: null, model: model.value };
    turns.push(turn);
    running = new AbortController();
    busy();
    draw();
    let due = false;
    const paint = () => {
      due = false;
      const following = talk.scrollHeight - talk.scrollTop - talk.clientHeight < NEAR_END;
      if (talk.lastElementChild) talk.lastElementChild.replaceWith(drawn(turn));
      if (following) talk.scrollTop = talk.scrollHeight;
    };
    await chat(asked, running.signal, (found) => {
      turn.answer = found;
      turn.text = found.text;
      if (!due) requestAnimationFrame(paint);
      due = true;
    });
    running = null;
    busy();
    draw();
  }

  function again() {
    if (running) return;
    if (turns.at(-1)?.role === "assistant") turns.pop();
    if (turns.at(-1)?.role === "user") answer();
  }

  function clear() {
    running?.abort();
    turns.length = 0;
    note.textContent = "";
    draw();
    box.focus();
  }

  function code() {
    try {
      const waiting = typed();
      if (waiting) turns.push(waiting);
      const asked = body();
      if (waiting) turns.pop();
      if (!asked.messages.some((one) => one.role === "user")) asked.messages.push({ role: "user", content: ASK.text[0] });
      showCode(asked);
    } catch (error) {
      note.textContent = `not JSON: ${error.message}`;
    }
  }

  function busy() {
    send.textContent = running ? "Stop" : "Send";
    send.classList.toggle("stop", Boolean(running));
  }

  function draw() {
    talk.replaceChildren(...(turns.length ? turns.map(drawn) : [welcome()]));
    talk.scrollTop = talk.scrollHeight;
  }

  function welcome() {
    const one = chosen();
    if (!one) return h("div", { class: "welcome" });
    const first = one.kind === "embedding" ? "This model makes embeddings, and does not chat." : one.images ? "Drop an image anywhere, and ask about it." : `Ask ${one.id} something.`;
    const proposals = one.id.startsWith("lfm2-") && one.id.endsWith("demo") ? ASK[one.kind] ?? [] : [];
    const propose = (text) => h("button", { class: "chip", onclick: () => ((box.value = text), one.images ? box.focus() : say()) }, text);
    return h("div", { class: "welcome" }, h("p", {}, first), h("div", { class: "row center" }, proposals.map(propose)));
  }

  const drawn = (turn) => (turn.role === "user" ? asked(turn) : answered(turn, turn === turns.at(-1) ? again : null));

  function grow() {
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, 200)}px`;
  }

  box.addEventListener("input", grow);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!running) say();
  });
  const leave = new AbortController();
  const listen = (name, act) => window.addEventListener(name, act, { signal: leave.signal });
  listen("keydown", (event) => event.key === "Escape" && running?.abort());
  listen("dragover", (event) => (event.preventDefault(), page.classList.add("dropping")));
  listen("dragleave", (event) => event.relatedTarget || page.classList.remove("dropping"));
  listen("drop", (event) => {
    event.preventDefault();
    page.classList.remove("dropping");
    attach(event.dataTransfer.files);
  });
  listen("paste", (event) => event.clipboardData.files.length && attach(event.clipboardData.files));

  busy();
  askable(ask).then((told) => {
    models = told;
    model.replaceChildren(...models.map((one) => h("option", { value: one.id }, one.id)));
    const before = localStorage.getItem("console-model");
    choose(models.some((one) => one.id === before) ? before : models[0].id);
  }, (error) => (note.textContent = error.message));
  return () => leave.abort();
}

function message(turn) {
  if (!turn.images?.length) return { role: turn.role, content: turn.text };
  const images = turn.images.map((url) => ({ type: "image_url", image_url: { url } }));
  return { role: turn.role, content: [...images, { type: "text", text: turn.text }] };
}

function asked(turn) {
  return h("article", { class: "turn user" }, turn.images.map((src) => h("img", { src, alt: "" })), turn.text && h("div", { class: "said" }, turn.text));
}

function answered(turn, again) {
  const found = turn.answer;
  const waiting = !found || (!found.ended && !found.pieces);
  return h(
    "article",
    { class: `turn assistant${found?.ended ? "" : " open"}` },
    found?.reasoning ? h("details", { class: "reasoning" }, h("summary", {}, "Reasoning"), h("div", {}, found.reasoning)) : null,
    h("div", { class: "said" }, waiting ? h("span", { class: "dots", "aria-label": "waiting" }) : render(turn.text)),
    (found?.calls ?? []).map((call) => h("pre", { class: "code" }, h("code", {}, `${call.name}(${call.arguments})`))),
    found?.error ? h("div", { class: "failure", role: "alert" }, h("b", {}, found.error.status || "Failed"), " ", found.error.message) : null,
    found?.ended ? took(turn, again) : null,
  );
}

function took(turn, again) {
  const found = turn.answer;
  const { ttft, tpot, tokens } = timing(found);
  const fact = (title, ...text) => h("span", { class: "fact", title }, text);
  return h(
    "footer",
    {},
    ttft === null ? null : fact("From sending to the first token, as this browser saw it (TTFT)", "first token ", h("b", {}, duration(ttft))),
    tpot === null ? null : fact("Mean time from one token to the next (TPOT)", h("b", {}, duration(tpot)), " a token"),
    tokens ? fact(found.usage ? `${found.usage.prompt_tokens} tokens in the prompt` : "Pieces that came: it was stopped before it could count", h("b", {}, number(tokens)), found.usage ? " tokens" : " pieces") : null,
    found.replica ? fact("The replica that answered", "replica ", h("b", {}, found.replica)) : null,
    found.finish && found.finish !== "stop" ? fact("Why it ended", found.finish === "length" ? "cut off at its length" : found.finish.replace("_", " ")) : null,
    h("span", { class: "space" }),
    again && h("button", { class: "link", onclick: again }, "Regenerate"),
    turn.text && h("button", { class: "link", onclick: (event) => copied(event.target, turn.text) }, "Copy"),
  );
}

async function copied(button, text) {
  await copy(text);
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = before), 1200);
}

function showCode(asked) {
  const texts = { curl: curl(asked), Python: python(asked) };
  const code = h("code", {});
  let text = "";
  const choose = (name) => {
    text = texts[name];
    code.textContent = shown(text);
    for (const tab of tabs) tab.setAttribute("aria-selected", String(tab.textContent === name));
  };
  const tabs = Object.keys(texts).map((name) => h("button", { role: "tab", class: "tab", onclick: () => choose(name) }, name));
  const dialog = h(
    "dialog",
    { class: "wide", onclose: () => dialog.remove() },
    h("div", { class: "row" }, h("div", { role: "tablist", class: "row" }, tabs), h("span", { class: "space" }),
      h("button", { class: "primary", onclick: (event) => copied(event.target, text) }, "Copy"),
      h("button", { class: "quiet", onclick: () => dialog.close() }, "Close")),
    h("pre", { class: "code" }, code),
  );
  choose("curl");
  document.body.append(dialog);
  dialog.showModal();
}
