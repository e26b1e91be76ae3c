// Pieces that both views show: money, what waits for a person, what is tried again.

import { isZero, shortened } from "./amounts.js";
import * as dialogs from "./dialogs.js";
import { h, keyed, setText, show } from "./dom.js";
import { duration, iso, when } from "./times.js";

/** Return the address of an account's view. */
export function linkTo(account) {
  return `#/account/${encodeURIComponent(account)}`;
}

export function accountLink(account) {
  return h("a", { href: linkTo(account), class: "account" }, account);
}

/** Return what there is to say of an account's state; nothing of most. */
export function stateOf({ state, paused, halted, step }) {
  const stopped = [paused ? "paused" : null, Object.keys(halted).length ? "halted" : null];
  const said = [state === "deleted" ? "deleted" : null, ...stopped, step];
  return said.filter(Boolean).join(", ").replaceAll("_", " ");
}

/** Return a part of the page with a heading that can have the focus, should what had it go away. */
export function section(title, className, ...children) {
  const heading = h("h2", { tabindex: -1 }, title);
  return { element: h("section", { class: className }, heading, ...children), heading };
}

/** Return an element that shows a time; `update` sets it, in seconds since 1970. */
export function moment() {
  const element = h("time");
  return {
    element,
    update(seconds, text) {
      element.setAttribute("datetime", iso(seconds));
      element.title = iso(seconds);
      setText(element, text ?? when(seconds));
    },
  };
}

const COLUMNS = [
  ["entered", "Requested", "Received"],
  ["queued", "Queued", "Queued"],
  ["open", "Under way", "Under way"],
  ["settled", "Settled", "Credited"],
  ["parked", "In doubt", "Held"],
];

/** Return one direction's sums, as a row of figures that add up. */
function lane(title, incoming) {
  const figures = COLUMNS.map(([name, outgoing, received]) => {
    const value = h("dd", { "data-sum": `${incoming ? "incoming" : "outgoing"}.${name}` });
    return { name, value, element: h("div", { class: `sum ${name}` }, h("dt", {}, incoming ? received : outgoing), value) };
  });
  const element = h("div", { class: "lane" }, h("h3", {}, title), h("dl", {}, ...figures.map((figure) => figure.element)));
  return {
    element,
    update(sums) {
      for (const { name, value, element: box } of figures) {
        const amount = name === "parked" ? (incoming ? sums.held : sums.in_doubt) : sums[name];
        setText(value, shortened(amount));
        box.classList.toggle("none", isZero(amount));
      }
    },
  };
}

/** Return both directions' sums. */
export function money() {
  const outgoing = lane("To peers", false);
  const incoming = lane("From peers", true);
  return {
    element: h("div", { class: "money" }, outgoing.element, incoming.element),
    update(sums) {
      outgoing.update(sums.outgoing);
      incoming.update(sums.incoming);
    },
  };
}

function button(label, about, act, className = "") {
  return h("button", { type: "button", class: className, "aria-label": `${label}: ${about}`, onclick: act }, label);
}

const ABOUT = {
  "does not add up": "Stop the server, keep the store as it is, and run settlement-core audit.",
};

/** Return one row of what waits for a person: what it is, of whom, why, since when, and what can be done. */
function waitingRow(first) {
  const kind = h("span", { class: `kind ${first.grave ? "grave" : ""}` }, first.kind);
  const amount = h("strong", { class: "amount" });
  const whose = first.account === undefined ? h("span", { class: "account" }, first.name ?? "") : accountLink(first.account);
  const reason = h("p", { class: "reason" });
  const since = moment();
  let item = first;
  const about = () => `${item.amount ?? ""} ${item.account ?? item.name ?? ""}`.trim();
  const actions = Object.entries(first.actions ?? {}).map(([label, act]) => button(label, about(), () => act(item.of)));
  const element = h(
    "li",
    { class: "waits" },
    h("div", { class: "what" }, kind, amount, whose, since.element),
    reason,
    h("div", { class: "actions" }, ...actions),
  );
  return {
    element,
    update(next) {
      item = next;
      setText(amount, next.amount === undefined ? "" : shortened(next.amount));
      setText(reason, next.reason || ABOUT[next.kind] || "");
      show(since.element, next.since !== undefined);
      if (next.since !== undefined) since.update(next.since, `for ${duration(Date.now() / 1000 - next.since)}`);
    },
  };
}

/** Return the list of what waits for a person; `update` gets the items, the gravest first. */
export function waiting() {
  const list = h("ul", { class: "list" });
  const nothing = h("p", { class: "nothing" }, "No decision waits for you.");
  const more = h("p", { class: "nothing", hidden: true });
  const { element, heading } = section("Waits for you", "card waiting", nothing, list, more);
  return {
    element,
    update(items, left) {
      keyed(list, items, (item) => item.key, waitingRow, heading);
      show(nothing, items.length === 0);
      show(more, left > 0);
      setText(more, `and ${left} more: settlement-core attempts --state in_doubt --state held`);
    },
  };
}

/** Return what waits, of attempts in doubt and held. */
export function ofAttempts(attempts) {
  return attempts.map((attempt) => ({
    key: `attempt ${attempt.account} ${attempt.id}`,
    kind: attempt.state === "in_doubt" ? "in doubt" : "held",
    grave: attempt.state === "in_doubt",
    amount: attempt.amount,
    account: attempt.account,
    reason: attempt.reason,
    since: attempt.claimed_at,
    of: attempt,
    actions:
      attempt.state === "in_doubt"
        ? { Resolve: dialogs.resolve }
        : { Release: dialogs.release, Resolve: dialogs.resolve },
  }));
}

function retryRow(first) {
  const next = h("strong", { class: "next" });
  const failures = h("span", { class: "failures" });
  const reason = h("p", { class: "reason" });
  const name = first.account_id;
  const element = h(
    "li",
    { class: "waits" },
    h("div", { class: "what" }, h("span", { class: "kind" }, first.direction), accountLink(name), next, failures),
    reason,
    h("div", { class: "actions" }, button("Settle now", name, () => dialogs.settleNow(name))),
  );
  return {
    element,
    update(lane) {
      const times = `${lane.failures} ${lane.failures === 1 ? "failure" : "failures"}`;
      const soon = lane.next_try_in_s === null ? "trying now" : `next try in ${duration(lane.next_try_in_s)}`;
      setText(next, soon);
      setText(failures, times);
      setText(reason, lane.last_error);
    },
  };
}

/** Return the list of what is tried again, the soonest first. */
export function retries() {
  const list = h("ul", { class: "list" });
  const nothing = h("p", { class: "nothing" }, "Nothing has to be tried again.");
  const { element, heading } = section("Tried again", "card retries", nothing, list);
  return {
    element,
    update(lanes) {
      keyed(list, lanes, (one) => `${one.account_id} ${one.direction}`, retryRow, heading);
      show(nothing, lanes.length === 0);
    },
  };
}
