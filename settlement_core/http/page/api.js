// The operator's API, from a page that it serves. The token, if one is asked for, stays in this tab.

const KEY = `settlement-core token ${location.pathname}`; // of this engine: a proxy may have several on one site
const LONGEST_PAUSE_MS = 15000;
const SILENCE_MS = 30000; // the server says something at least every 10 s

/** The server asks for a token, and has not been shown one that it knows. */
export class TokenNeeded extends Error {}

/** The server refused, and said why; `status` is HTTP's. */
export class Refused extends Error {
  constructor(why, status) {
    super(why);
    this.status = status;
  }
}

export function rememberToken(token) {
  sessionStorage.setItem(KEY, token);
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
}

export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  // without this a browser would ask for the token itself, in a window of its own
  const said = { "X-Requested-With": "XMLHttpRequest", ...more };
  return token === null ? said : { ...said, Authorization: `Bearer ${token}` };
}

async function checked(response) {
  if (response.ok) return response;
  if (response.status === 401) throw new TokenNeeded();
  const said = await response.json().catch(() => ({}));
  const why = typeof said.detail === "string" ? said.detail : `the server answered ${response.status}`;
  throw new Refused(why, response.status);
}

/** Return what the server answers to a query; a list in `parameters` is repeated, null left out. */
export async function get(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null) query.append(name, one);
  }
  const text = query.toString();
  const response = await fetch(text ? `${path}?${text}` : path, { headers: headers(), cache: "no-store" });
  return (await checked(response)).json();
}

/** Have the server do something, which may be repeated; return what it answers. */
export async function post(path, content) {
  const body = JSON.stringify(content);
  const asked = { method: "POST", headers: headers({ "Content-Type": "application/json" }), body };
  return (await checked(await fetch(path, asked))).json();
}

/**
 * Follow events until `stop` is aborted, through broken connections. `heard` gets each event's type and content, first
 * of all "resync" where something may have been missed; `state` gets "live" or "lost", or "token", which is the last.
 */
export async function follow(heard, state, stop) {
  let last = null;
  let pause_ms = 1000;
  while (!stop.aborted) {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const more = last === null ? {} : { "Last-Event-ID": last };
      const asked = { headers: headers(more), cache: "no-store", signal: AbortSignal.any([silence.signal, stop]) };
      const response = await checked(await fetch("events", asked));
      state("live");
      pause_ms = 1000;
      for await (const event of eventsOf(response.body)) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        last = event.id ?? last;
        if (event.data !== undefined) heard(event.event, JSON.parse(event.data));
      }
    } catch (problem) {
      if (stop.aborted) return;
      if (problem instanceof TokenNeeded) {
        state("token");
        return;
      }
    } finally {
      clearTimeout(timer);
    }
    state("lost");
    await new Promise((resolve) => setTimeout(resolve, pause_ms));
    pause_ms = Math.min(2 * pause_ms, LONGEST_PAUSE_MS);
  }
}

/** Yield the events of a stream as the server writes them: lines, ended by "\n", and an empty one after each event. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    kept += value;
    const blocks = kept.split("\n\n");
    kept = blocks.pop();
    for (const block of blocks) {
      const event = {};
      for (const line of block.split("\n")) {
        const end = line.indexOf(":");
        if (end > 0) event[line.slice(0, end)] = line.slice(end + 1).replace(/^ /, "");
      }
      yield event;
    }
  }
}
