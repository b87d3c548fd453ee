// A request as somebody else would send it.

import { SERVICE, key } from "./api.js";

const OPENAI = new Set(["model", "messages", "stream", "temperature", "top_p", "max_tokens", "tools", "response_format", "stream_options"]);
/** What OpenAI's client takes by name; the rest goes into its extra_body. */

export function curl(body) {
  const lines = [`curl ${new URL("v1/chat/completions", SERVICE)} -N -H 'Content-Type: application/json' \\`];
  if (key.get()) lines.push(`  -H "Authorization: Bearer $API_KEY" \\`);
  lines.push("  -d @- <<'END'", JSON.stringify(body, null, 2), "END");
  return lines.join("\n");
}

export function python(body) {
  const named = Object.entries(body).filter(([name]) => OPENAI.has(name));
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !OPENAI.has(name)));
  const lines = named.map(([name, value]) => `    ${name}=${literal(value, 1)},`);
  if (Object.keys(extra).length) lines.push(`    extra_body=${literal(extra, 1)},`);
  const token = key.get() ? 'os.environ["API_KEY"]' : '"none"';
  return [
    ...(key.get() ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${new URL("v1", SERVICE)}", api_key=${token})`,
    "stream = client.chat.completions.create(",
    ...lines,
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
    "print()",
  ].join("\n");
}

function literal(value, depth) {
  const outer = "    ".repeat(depth), inner = outer + "    ";
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const list = Array.isArray(value);
  const items = list ? value.map((one) => literal(one, depth + 1)) : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one, depth + 1)}`);
  const [open, close] = list ? "[]" : "{}";
  const short = open + items.join(", ") + close;
  return short.length + 4 * depth < 100 && !short.includes("\n") ? short : `${open}\n${items.map((one) => `${inner}${one},\n`).join("")}${outer}${close}`;
}

/** A text with the data of its images cut short, to look at. */
export const shown = (text) => text.replace(/(base64,.{24})[A-Za-z0-9+/=]+/g, "$1…");
