// The service's JSON over HTTP. Addresses are relative to where this file lies, so that a proxy may put it all elsewhere.

const CONSOLE = new URL("./", import.meta.url);
export const SERVICE = new URL("../", CONSOLE);
const KEY = "console-key";

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

export class ServiceError extends Error {
  constructor(status, message, code, retryAfter) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

/** The answer to a request, whatever its body; throws ServiceError for any status that is no success. */
export async function request(path, { method = "GET", body, form, signal, base = SERVICE } = {}) {
  const headers = {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(new URL(path, base), { method, headers, body: form ?? (body && JSON.stringify(body)), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, "the service does not answer; it may have ended, or the network between");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  const error = told?.error ?? {};
  throw new ServiceError(answer.status, error.message ?? answer.statusText, error.code, answer.headers.get("retry-after"));
}

export async function json(path, options) {
  return (await request(path, options)).json();
}

/** Of the console's own pages. */
export const own = (path, options) => json(`api/${path}`, { ...options, base: CONSOLE });
