// One account: its money, what it waits for, what can be done, and its history as a timeline.

import { get, Refused } from "./api.js";
import { shortened } from "./amounts.js";
import * as dialogs from "./dialogs.js";
import { h, keyed, setText, show } from "./dom.js";
import { moment, money, ofAttempts, retries, section, stateOf, waiting } from "./parts.js";
import { duration, when } from "./times.js";

const PAGE = 50;

/** Return the view of an account. */
export function accountView(id) {
  const state = h("span", { class: "tag", hidden: true });
  const paused = h("p", { class: "reason", hidden: true });
  const unknown = h("p", { class: "problem", hidden: true }, "No account has this id.");
  const act = (label, action) => h("button", { type: "button", onclick: () => action(id) }, label);
  const settle = act("Settle now", dialogs.settleNow);
  const pause = act("Pause", dialogs.pause);
  const resume = act("Resume", dialogs.resume);
  const wait = waiting();
  const sums = money();
  const figures = section("Money", "card", sums.element);
  const again = retries();
  const history = timeline(id);
  const known = h(
    "div",
    { class: "known" },
    h("div", { class: "actions" }, settle, pause, resume),
    paused,
    wait.element,
    figures.element,
    again.element,
    history.element,
  );
  const element = h(
    "div",
    { class: "overview" },
    h("p", {}, h("a", { href: "#/" }, "← All accounts")),
    h("h1", {}, h("span", { class: "account" }, id), " ", state),
    unknown,
    known,
  );

  async function update() {
    const [found, waits, summary] = await Promise.all([
      get(`accounts/${encodeURIComponent(id)}`).catch(none),
      get("attempts", { account: id, state: ["in_doubt", "held"], limit: PAGE }),
      get("statistics"),
      history.update(),
    ]);
    const account = found[0];
    show(unknown, account === undefined);
    show(known, account !== undefined);
    document.title = `${id} – Settlement engine`;
    document.getElementById("engine").textContent = summary.engine;
    if (account === undefined) return;
    const text = stateOf(account);
    setText(state, text);
    show(state, text !== "");
    show(pause, !account.paused);
    show(resume, account.paused);
    show(paused, account.paused);
    if (account.paused) {
      const { by, at, reason } = account.pausing;
      setText(paused, `Paused by ${by}, ${when(at)}: ${reason}`);
    }
    const halts = ["outgoing", "incoming"]
      .map((direction) => [direction, summary.halted[`${id} ${direction}`]])
      .filter(([, reason]) => reason !== undefined)
      .map(([direction, reason]) => ({
        key: direction,
        kind: `${direction} halted`,
        grave: true,
        name: "",
        reason,
        of: id,
        actions: { Resume: dialogs.resumeHalted },
      }));
    wait.update([...halts, ...ofAttempts(waits)], 0);
    sums.update(account);
    setText(figures.heading, summary.asset ? `Money, in ${summary.asset}` : "Money");
    again.update(summary.lanes.filter((lane) => lane.account_id === id && lane.failures > 0));
  }

  const stale = h("p", { class: "problem", role: "alert", hidden: true });
  known.before(stale);

  async function updateAndSay() {
    await update();
    show(stale, false);
  }

  function unknownNow(why) {
    setText(stale, why);
    show(stale, true);
  }

  return { element, update: updateAndSay, unknown: unknownNow, heard: () => {} };
}

/** No account has an id that cannot be part of a path: of that, too, the server says 404. */
function none(problem) {
  if (problem instanceof Refused && problem.status === 404) return [];
  throw problem;
}

/** Attempts, newest first: each is one payment to the peer, or one credit at the connector. */
function timeline(id) {
  let pages = 1;
  const list = h("ol", { class: "timeline" });
  const nothing = h("p", { class: "nothing", hidden: true }, "Nothing was paid or credited yet.");
  const older = h("button", { type: "button", onclick: () => { pages += 1; update(); } }, "Older");
  const { element, heading } = section("History", "card", nothing, list, older);

  async function update() {
    const found = [];
    for (let page = 0; page < pages; page += 1) {
      const after = found.length ? { after: found.at(-1).id, after_account: id } : {};
      const more = await get("attempts", { account: id, newest: true, limit: PAGE, ...after });
      found.push(...more);
      if (more.length < PAGE) break;
    }
    keyed(list, found, (attempt) => attempt.id, attemptRow, heading);
    show(nothing, found.length === 0);
    show(older, found.length === pages * PAGE);
  }

  return { element, update };
}

const WORDS = {
  outgoing: { open: "is being paid", closed: "was paid", nothing: "was not paid, and is queued again" },
  incoming: { open: "is being credited", closed: "was credited", nothing: "was not credited, and is queued again" },
};

function wordsOf({ direction, state, settled, amount }) {
  const words = WORDS[direction];
  if (state === "in_doubt") return "is in doubt";
  if (state === "held") return "is held until you decide";
  if (state === "released") return "was released, and is offered again";
  if (state === "open") return words.open;
  const all = shortened(amount);
  const moved = shortened(settled);
  if (moved === all) return words.closed;
  return moved === "0" ? words.nothing : `: ${moved} ${words.closed}, the rest is queued again`;
}

function attemptRow(first) {
  const amount = h("strong", { class: "amount" }, shortened(first.amount));
  const words = h("span", {});
  const reason = h("p", { class: "reason" });
  const at = moment();
  const took = h("span", { class: "took" });
  const name = h("small", { class: "id" }, first.id);
  const element = h(
    "li",
    {},
    h("div", { class: "what" }, at.element, h("span", { class: "kind" }, first.direction), amount, " ", words, " ", took),
    reason,
    name,
  );
  return {
    element,
    update(attempt) {
      at.update(attempt.claimed_at);
      element.className = `${attempt.state} ${attempt.direction}`;
      setText(words, wordsOf(attempt));
      setText(took, attempt.closed_at === null ? "" : `after ${duration(attempt.closed_at - attempt.claimed_at)}`);
      const who = attempt.resolved_by ? `, says ${attempt.resolved_by}` : "";
      setText(reason, attempt.reason ? `${attempt.reason}${who}` : "");
    },
  };
}
