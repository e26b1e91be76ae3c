// The page: which view is shown, when it looks again, and the token, should the server ask for one.

import { accountView } from "./account.js";
import { follow, forgetToken, get, hasToken, Refused, rememberToken, TokenNeeded } from "./api.js";
import { h, say, setText, show } from "./dom.js";
import { overview } from "./overview.js";
import { when } from "./times.js";

const SOON_MS = 250; // events come in crowds
const APART_MS = 1000;
const ANYHOW_MS = 5000; // other workers' events are not told here, and what waits grows older

const main = document.getElementById("main");
const live = document.getElementById("live");
const forget = document.getElementById("forget");

let view = null;
let timer = null;
let looking = false;
let again = false;
let lookedAt = 0;
let shownAt = null;
let following = false;
let stop = new AbortController();

function look(within_ms) {
  if (looking) {
    again = true;
    return;
  }
  clearTimeout(timer);
  timer = setTimeout(lookNow, Math.max(within_ms, lookedAt + APART_MS - Date.now(), 0));
}

async function lookNow() {
  if (view === null || document.hidden) return;
  looking = true;
  again = false;
  lookedAt = Date.now();
  const shown = view;
  try {
    await shown.update();
    main.dataset.fresh = "true";
    shownAt = lookedAt;
    setText(live, following ? "live" : "not live: asking every few seconds");
    live.dataset.state = following ? "live" : "lost";
  } catch (problem) {
    if (problem instanceof TokenNeeded) {
      askForToken();
    } else {
      const since = shownAt === null ? "" : `: figures are of ${when(shownAt / 1000)}`;
      const why = problem instanceof Refused ? problem.message : "the server does not answer";
      setText(live, `not live${since}`);
      live.dataset.state = "lost";
      main.dataset.fresh = "false";
      shown.unknown(`${why}${since}`);
    }
  } finally {
    looking = false;
  }
  if (view !== null) look(again ? SOON_MS : ANYHOW_MS);
}

function heard(kind, event) {
  if (view === null) return;
  view.heard(kind, event);
  hurry();
}

/** Look soon, and no later for every further reason to. */
let hurried = false;
function hurry() {
  if (hurried) return;
  hurried = true;
  setTimeout(() => {
    hurried = false;
    look(0);
  }, SOON_MS);
}

function route() {
  const match = /^#\/account\/(.+)$/.exec(location.hash);
  let made;
  try {
    made = match ? accountView(decodeURIComponent(match[1])) : overview();
  } catch {
    made = overview();
  }
  const first = view === null;
  view = made;
  lookedAt = 0;
  shownAt = null;
  main.replaceChildren(made.element);
  show(forget, hasToken());
  if (!first) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  look(0);
}

/** Offer no decisions to a token that may only read. */
async function learnRole() {
  const { role } = hasToken() ? await get("caller").catch(() => ({ role: "" })) : { role: "" };
  document.body.dataset.role = role;
}

function begin() {
  stop = new AbortController();
  route();
  learnRole();
  const changed = (state) => {
    following = state === "live";
    if (state === "token") askForToken();
    else look(0);
  };
  follow(heard, changed, stop.signal);
}

function askForToken() {
  if (view === null) return;
  stop.abort();
  const wrong = hasToken();
  view = null;
  clearTimeout(timer);
  forgetToken();
  show(forget, false);
  const token = h("input", { type: "password", id: "token", required: true, autocomplete: "off", spellcheck: "false" });
  const problem = h("p", { class: "problem", role: "alert", hidden: !wrong }, "The server does not know this token.");
  const form = h(
    "form",
    { class: "card token", novalidate: true },
    h("h1", {}, "This server asks for a token"),
    h("p", {}, "An operator's, as settlement-core token makes them. It stays in this tab, and is gone with it."),
    h("div", { class: "field" }, h("label", { for: "token" }, "Token"), token),
    problem,
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "main" }, "Show")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = token.value.trim();
    if (!/^[\x21-\x7e]+$/.test(text)) {
      setText(problem, "A token is visible ASCII characters without spaces.");
      show(problem, true);
      return;
    }
    rememberToken(text);
    begin();
  });
  main.replaceChildren(form);
  document.getElementById("engine").textContent = "";
  document.title = "Settlement engine";
  setText(live, "waiting for a token");
  live.dataset.state = "lost";
  token.focus();
}

forget.addEventListener("click", () => {
  forgetToken();
  location.reload();
});
addEventListener("hashchange", () => view !== null && route());
document.addEventListener("visibilitychange", () => view !== null && look(0));
document.addEventListener("decided", hurry);
addEventListener("unhandledrejection", (event) => say(String(event.reason), true));
begin();
