// The first look: is my money all right? What waits for a person; money; curves; retries; accounts; events.

import { get } from "./api.js";
import { add, isZero, shortened } from "./amounts.js";
import { chart } from "./charts.js";
import * as dialogs from "./dialogs.js";
import { h, keyed, setText, show } from "./dom.js";
import { accountLink, linkTo, moment, money, ofAttempts, retries, section, stateOf, waiting } from "./parts.js";
import { proposals } from "./proposals.js";
import { duration } from "./times.js";

const PAGE = 50;
const NAMED = 50;
const EVENTS = 40;
const YOUNG_S = 300; // of a server that has only just started, some minutes are shown all the same
const UNTOLD = new Set(["AttemptClaimed", "PaymentNoted"]); // steps on the way, which only a log needs

/** Return the view; `update` asks the server and shows what it says, `heard` shows an event. */
export function overview() {
  const verdict = h("section", { class: "verdict", role: "status", "aria-label": "Is my money all right?" });
  const sentence = h("p", { class: "sentence" });
  const detail = h("p", { class: "detail" });
  const reasons = h("ul", { class: "reasons" });
  verdict.append(sentence, reasons, detail);
  const wait = waiting();
  const second = proposals();
  const sums = money();
  const figures = section("Money", "card", sums.element);
  const curves = activity();
  const again = retries();
  const list = accounts();
  const log = events();
  const element = h(
    "div",
    { class: "overview" },
    h("h1", { class: "away" }, "Overview"),
    verdict,
    second.element,
    wait.element,
    figures.element,
    curves.element,
    again.element,
    list.element,
    log.element,
  );

  async function update() {
    const [summary, attempts, suspense] = await Promise.all([
      get("summary"),
      get("attempts", { state: ["in_doubt", "held"], limit: NAMED }),
      get("suspense", { limit: NAMED }),
      second.update(),
      curves.update(),
      list.update(),
    ]);
    const items = whatWaits(summary, attempts, suspense);
    showVerdict(summary.verdict);
    setText(detail, details(summary));
    const { in_doubt, held, unattributed } = summary.waiting;
    const named = attempts.length + suspense.length;
    wait.update(items, in_doubt.count + held.count + unattributed.count - named);
    sums.update(summary);
    setText(figures.heading, summary.server.asset ? `Money, in ${summary.server.asset}` : "Money");
    again.update(summary.retrying.lanes);
    document.getElementById("engine").textContent = summary.server.engine;
    const number = Math.max(items.length, summary.verdict.reasons.length);
    document.title = number ? `(${number}) Settlement engine` : "Settlement engine";
  }

  /** Show the server's verdict as it is: nothing is judged here. */
  function showVerdict(found) {
    verdict.dataset.grade = found.grade;
    setText(sentence, found.sentence);
    const rows = found.reasons.map((reason, place) => ({ ...reason, key: `${place} ${reason.kind}` }));
    keyed(reasons, rows, (reason) => reason.key, reasonRow, verdict);
  }

  /** Say that nobody knows: what was right a minute ago may not be any more. */
  function unknown(why) {
    verdict.dataset.grade = "unknown";
    keyed(reasons, [], (reason) => reason.key, reasonRow);
    setText(sentence, "Not known: whether your money is all right cannot be told now.");
    setText(detail, why);
  }

  return { element, update, unknown, heard: log.heard };
}

function reasonRow(first) {
  const text = h("span", {});
  const command = h("code", {});
  return {
    element: h("li", { "data-kind": first.kind, "data-grade": first.grade }, text, " ", command),
    update(reason) {
      setText(text, reason.text);
      setText(command, reason.command);
    },
  };
}

/** Return all that an operator can decide here, the gravest first. */
function whatWaits(summary, attempts, suspense) {
  const items = summary.unbalanced.accounts.map((account) => ({
    key: `unbalanced ${account}`,
    kind: "does not add up",
    grave: true,
    account,
  }));
  for (const { account, direction, reason } of summary.halted) {
    const key = `halted ${account} ${direction}`;
    const actions = { Resume: dialogs.resumeHalted };
    items.push({ key, kind: `${direction} halted`, grave: true, account, reason, of: account, actions });
  }
  items.push(...ofAttempts(attempts).sort((one, other) => other.grave - one.grave));
  for (const item of suspense) {
    items.push({
      key: `unattributed ${item.settlement_id}`,
      kind: "unattributed",
      amount: item.amount,
      name: item.settlement_id,
      reason: JSON.stringify(item.details),
      since: item.reported_at,
      of: item,
      actions: { Assign: dialogs.assign, "Not ours": dialogs.dismiss },
    });
  }
  for (const account of summary.paused.accounts) {
    items.push({ key: `paused ${account}`, kind: "paused", account, of: account, actions: { Resume: dialogs.resume } });
  }
  return items;
}

/** Return what to know beside the verdict. */
function details(summary) {
  const { in_doubt, held, unattributed } = summary.waiting;
  const said = [];
  if (summary.paused.count > 0) said.push(`${summary.paused.count} paused`);
  if (in_doubt.count) said.push(`${shortened(in_doubt.amount)} in doubt`);
  if (held.count) said.push(`${shortened(held.amount)} held`);
  if (unattributed.count) said.push(`${shortened(unattributed.amount)} unattributed`);
  const oldest = Math.min(...[in_doubt, held, unattributed].map((lot) => lot.since ?? Infinity));
  if (oldest < Infinity) said.push(`the oldest for ${duration(Date.now() / 1000 - oldest)}`);
  if (summary.server.stopping) said.push("the server is stopping");
  if (!summary.server.recovered) said.push("still looking at what an earlier run left");
  const { partitions, partitions_held } = summary.server;
  if (partitions > 1) said.push(`this worker looks after ${partitions_held} of ${partitions} partitions`);
  said.push(`${summary.accounts} ${summary.accounts === 1 ? "account" : "accounts"}`);
  said.push(summary.server.store);
  return said.join(" · ");
}

/** Settlements and credits over time, and how long requests took. */
function activity() {
  let span = "hour";
  const moved = h("div", { class: "plot", role: "img" });
  const took = h("div", { class: "plot", role: "img" });
  const told = h("p", { class: "told" });
  const tookTold = h("p", { class: "told" });
  const choices = ["hour", "day"].map((value) =>
    h("button", { type: "button", onclick: () => choose(value) }, value === "hour" ? "Hour" : "Day"),
  );
  const movedChart = chart(
    moved,
    [
      { label: "settled", colour: "--outgoing", bars: true },
      { label: "credited", colour: "--incoming", bars: true },
    ],
    (number) => String(Number(number.toPrecision(6))),
  );
  const tookChart = chart(
    took,
    [
      { label: "half within", colour: "--outgoing" },
      { label: "95 % within", colour: "--warn" },
    ],
    duration,
  );
  const { element } = section(
    "Over time",
    "card curves",
    h("div", { class: "choices", role: "group", "aria-label": "How far back" }, ...choices),
    h(
      "div",
      { class: "pair" },
      h("div", {}, h("h3", {}, "Settled and credited"), moved, told),
      h("div", {}, h("h3", {}, "From request to settled"), took, tookTold),
    ),
  );
  press();

  function press() {
    choices.forEach((choice, place) => choice.setAttribute("aria-pressed", String(["hour", "day"][place] === span)));
  }

  function choose(value) {
    span = value;
    press();
    document.dispatchEvent(new Event("decided"));
  }

  async function update() {
    const found = await get("activity", { span });
    const { at, since, span_s, point_s, points } = found;
    const known = new Map(points.map((point) => [point.at, point]));
    const columns = [[], [], [], [], []];
    const earliest = Math.max(at - span_s, Math.min(since - point_s, at - YOUNG_S));
    const first = Math.ceil(earliest / point_s) * point_s;
    for (let start = first; start <= at; start += point_s) {
      const point = known.get(start);
      columns[0].push(start);
      columns[1].push(point ? Number(point.settled) : 0);
      columns[2].push(point ? Number(point.credited) : 0);
      columns[3].push(point?.median_s ?? null);
      columns[4].push(point?.p95_s ?? null);
    }
    movedChart([columns[0], columns[1], columns[2]]);
    tookChart([columns[0], columns[3], columns[4]]);
    const sum = (name) => points.map((point) => point[name]).reduce(add, "0");
    const count = (name) => points.reduce((total, point) => total + point[name], 0);
    const back = at - since < span_s ? `since this server started ${duration(at - since)} ago` : `in the last ${span}`;
    setText(
      told,
      `${sum("settled")} settled in ${count("settlements")}, ${sum("credited")} credited in ${count("credits")}, ${back}.`,
    );
    const slowest = Math.max(0, ...points.map((point) => point.p95_s ?? 0));
    setText(tookTold, slowest > 0 ? `95 % within ${duration(slowest)} at the slowest time.` : "Nothing was settled yet.");
    moved.setAttribute("aria-label", `Curves of ${told.textContent}`);
    took.setAttribute("aria-label", `Curves of latency: ${tookTold.textContent}`);
  }

  return { element, update };
}

/** The accounts, a page at a time, found by what their ids begin with. */
function accounts() {
  let prefix = "";
  let due = false;
  let starts = [""];
  let last = "";
  const filter = h("input", { type: "search", id: "filter", autocomplete: "off", spellcheck: "false", oninput: changed });
  const busy = h("input", { type: "checkbox", id: "busy", onchange: changed });
  const body = h("tbody");
  const names = ["Account", "Requested", "Queued", "Settled", "In doubt", "Received", "Credited", "Held"];
  const heads = names.map((name, place) => h("th", { scope: "col", class: place ? "number" : null }, name));
  const table = h("table", { class: "accounts" }, h("thead", {}, h("tr", {}, ...heads)), body);
  const nothing = h("p", { class: "nothing", hidden: true }, "No account is like this.");
  const back = h("button", { type: "button", onclick: () => turn(-1) }, "Previous");
  const forth = h("button", { type: "button", onclick: () => turn(1) }, "Next");
  const { element, heading } = section(
    "Accounts",
    "card",
    h(
      "div",
      { class: "filters" },
      h("label", { for: "filter" }, "Begins with"),
      filter,
      h("label", { class: "choice" }, busy, "only those with money on its way"),
    ),
    table,
    nothing,
    h("nav", { class: "pages", "aria-label": "Pages of accounts" }, back, forth),
  );
  let asked = 0;

  function changed() {
    prefix = filter.value.trim();
    due = busy.checked;
    starts = [""];
    update();
  }

  function turn(by) {
    starts = by > 0 ? [...starts, last] : starts.slice(0, -1);
    update();
  }

  async function update() {
    const number = ++asked;
    const found = await get("accounts", { prefix, due, after: starts.at(-1), limit: PAGE + 1 });
    if (number !== asked) return; // something else was asked for meanwhile
    const page = found.slice(0, PAGE);
    last = page.at(-1)?.id ?? "";
    keyed(body, page, (account) => account.id, accountRow, heading);
    show(nothing, page.length === 0);
    show(table, page.length > 0);
    back.disabled = starts.length === 1;
    forth.disabled = found.length <= PAGE;
  }

  return { element, update };
}

const FIGURES = [
  ["Requested", (account) => account.outgoing.entered],
  ["Queued", (account) => add(account.outgoing.queued, account.outgoing.open)],
  ["Settled", (account) => account.outgoing.settled],
  ["In doubt", (account) => account.outgoing.in_doubt],
  ["Received", (account) => account.incoming.entered],
  ["Credited", (account) => account.incoming.settled],
  ["Held", (account) => account.incoming.held],
];

function accountRow(first) {
  const state = h("span", { class: "tag", hidden: true });
  const cells = FIGURES.map(([label]) => h("td", { class: "number", "data-label": label }));
  const name = h("th", { scope: "row" }, accountLink(first.id), state);
  return {
    element: h("tr", { "data-account": first.id }, name, ...cells),
    update(account) {
      const text = stateOf(account);
      setText(state, text);
      show(state, text !== "");
      FIGURES.forEach(([label, figure], place) => {
        const amount = figure(account);
        setText(cells[place], shortened(amount));
        cells[place].classList.toggle("none", isZero(amount));
        cells[place].classList.toggle("alert", !isZero(amount) && (label === "In doubt" || label === "Held"));
      });
    },
  };
}

/** The latest events, as they come. */
function events() {
  const list = h("ol", { class: "events" });
  const nothing = h("p", { class: "nothing" }, "Nothing has happened since this page was opened.");
  const { element } = section("Events", "card", nothing, list);
  return {
    element,
    heard(kind, event) {
      if (event.text === undefined || UNTOLD.has(kind)) return;
      const at = moment();
      at.update(event.time);
      const named = event.account_id ? h("a", { href: linkTo(event.account_id) }, event.text) : h("span", {}, event.text);
      list.prepend(h("li", { class: event.level, "data-event": kind }, at.element, " ", named));
      while (list.children.length > EVENTS) list.lastElementChild.remove();
      show(nothing, false);
    },
  };
}
