// The little of Markdown that models write, as elements; never as HTML, so that no answer can be a script.

import { h } from "./dom.js";

/** Elements for a text: fenced code, headings, lists, and **bold** and `code` within lines. */
export function render(text) {
  const parts = [];
  const fences = text.split(/^```([\w+-]*)[ \t]*$/m);
  for (let index = 0; index < fences.length; index += 2) {
    const inCode = (index / 2) % 2 === 1;
    if (inCode) parts.push(h("pre", { class: "code" }, h("code", {}, fences[index].replace(/^\n|\n$/g, ""))));
    else parts.push(...blocks(fences[index]));
  }
  return parts;
}

function blocks(text) {
  return text.split(/\n{2,}/).filter((block) => block.trim()).map((block) => {
    const lines = block.trim().split("\n");
    if (lines.every((line) => /^\s*[-*] /.test(line))) return h("ul", {}, lines.map((line) => h("li", {}, inline(line.replace(/^\s*[-*] /, "")))));
    if (lines.every((line) => /^\s*\d+[.)] /.test(line))) return h("ol", {}, lines.map((line) => h("li", {}, inline(line.replace(/^\s*\d+[.)] /, "")))));
    if (lines.length === 1 && /^#{1,4} /.test(lines[0])) return h("h4", {}, inline(lines[0].replace(/^#+ /, "")));
    return h("p", {}, inline(block.trim()));
  });
}

function inline(text) {
  return text.split(/(\*\*[^*\n]+\*\*|`[^`\n]+`)/).map((part) => {
    if (part.startsWith("**") && part.endsWith("**") && part.length > 4) return h("strong", {}, part.slice(2, -2));
    if (part.startsWith("`") && part.endsWith("`") && part.length > 2) return h("code", {}, part.slice(1, -1));
    return part;
  });
}
