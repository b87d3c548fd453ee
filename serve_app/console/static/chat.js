// One streamed chat completion, with its timing as the browser sees it.

import { request } from "./api.js";

/** The data of each event of a stream, up to [DONE]. */
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      yield JSON.parse(line.slice(6));
    }
  }
}

/**
 * Asks, and calls `changed` with the answer so far whenever it has grown.
 *
 * The answer is {text, reasoning, calls, finish, usage, replica, began, first, last, pieces, error}; times are in
 * seconds, on a clock of their own. It resolves when the answer has ended, been stopped by `signal`, or failed.
 */
export async function chat(body, signal, changed) {
  const answer = { text: "", reasoning: "", calls: [], finish: null, usage: null, replica: null, pieces: 0, error: null };
  const now = () => performance.now() / 1000;
  answer.began = now();
  try {
    const response = await request("v1/chat/completions", { method: "POST", body, signal });
    answer.replica = response.headers.get("x-replica");
    for await (const event of events(response)) {
      if (event.error) throw Object.assign(new Error(event.error.message), { status: event.error.code });
      if (event.usage) answer.usage = event.usage;
      const choice = event.choices?.[0];
      if (!choice) continue;
      take(answer, choice.delta ?? {}, now());
      answer.finish = choice.finish_reason ?? answer.finish;
      changed(answer);
    }
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "stopped";
    else answer.error = error;
  }
  answer.ended = now();
  changed(answer);
  return answer;
}

function take(answer, delta, at) {
  const reasoning = delta.reasoning ?? delta.reasoning_content ?? "";
  if (!delta.content && !reasoning && !delta.tool_calls) return;
  answer.first ??= at;
  answer.last = at;
  answer.pieces += 1;
  answer.text += delta.content ?? "";
  answer.reasoning += reasoning;
  for (const call of delta.tool_calls ?? []) {
    const known = (answer.calls[call.index ?? 0] ??= { name: "", arguments: "" });
    known.name += call.function?.name ?? "";
    known.arguments += call.function?.arguments ?? "";
  }
}

/** Seconds to the first token, and between tokens; null while not known. */
export function timing(answer) {
  const tokens = answer.usage?.completion_tokens ?? answer.pieces;
  const ttft = answer.first === undefined ? null : answer.first - answer.began;
  return { ttft, tpot: tokens > 1 && answer.last > answer.first ? (answer.last - answer.first) / (tokens - 1) : null, tokens };
}
