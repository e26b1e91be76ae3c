// What a person decides: said in full, with a reason and a name, and confirmed, before anything is sent.

import { post } from "./api.js";
import { isAmount, isZero, shortened, subtract } from "./amounts.js";
import { h, say, setText, show } from "./dom.js";

const NAME = "settlement-core name";
let numbers = 0;

function field(label, control, hint = null) {
  control.id = `field-${++numbers}`;
  const told = hint === null ? null : h("small", { id: `${control.id}-hint` }, hint);
  if (told !== null) control.setAttribute("aria-describedby", told.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, told);
}

/**
 * Ask, and do it if the person confirms; `done` is what is said then, or makes it of the server's answer. `extra` are more fields; `content` returns what to send besides reason and
 * name, or throws with the sentence that says what is missing.
 */
function ask({ title, text, confirm, path, done, extra = [], content = () => ({}), reasoned = true, grave = false }) {
  const reason = h("textarea", { rows: 2, required: true, maxlength: 1000, name: "reason" });
  const by = h("input", { required: true, maxlength: 200, name: "by", autocomplete: "name" });
  by.value = sessionStorage.getItem(NAME) ?? "";
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const send = h("button", { type: "submit", class: grave ? "grave" : "main" }, confirm);
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const heading = h("h2", { id: `dialog-${++numbers}` }, title);
  const asked = reasoned ? [field("Reason", reason, "Kept with the books."), field("Your name", by, "Kept too.")] : [];
  const form = h(
    "form",
    { novalidate: true },
    heading,
    h("p", {}, text),
    ...extra,
    ...asked,
    problem,
    h("div", { class: "buttons" }, cancel, send),
  );
  const dialog = h("dialog", { "aria-labelledby": heading.id }, form);

  function refuse(sentence) {
    setText(problem, sentence);
    show(problem, true);
  }

  async function submit(event) {
    event.preventDefault();
    let said;
    try {
      said = content();
      if (reasoned) {
        if (reason.value.trim() === "") throw new RangeError("Say why: the reason is kept with the books.");
        if (by.value.trim() === "") throw new RangeError("Say who you are: your name is kept with the books.");
        said = { ...said, reason: reason.value.trim(), by: by.value.trim() };
        sessionStorage.setItem(NAME, said.by);
      }
    } catch (mistake) {
      refuse(mistake.message);
      return;
    }
    send.disabled = true;
    try {
      const answer = await post(path, said);
      dialog.close();
      const told = typeof done === "function" ? done(answer) : done;
      say(answer.waits_for ? `${told} But not yet: ${answer.waits_for}` : told);
      document.dispatchEvent(new Event("decided"));
    } catch (refused) {
      refuse(refused.message || "The server did not answer; nothing is known to have been recorded. Repeating is safe.");
    } finally {
      send.disabled = false;
    }
  }

  form.addEventListener("submit", submit);
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    // where the person was, or, if that is gone, the page
    (before instanceof HTMLElement && before.isConnected ? before : document.getElementById("main")).focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  (form.querySelector("input, textarea") ?? send).focus();
}

function pathOf(...names) {
  return names.map(encodeURIComponent).join("/");
}

export function settleNow(account) {
  ask({
    title: "Settle now",
    text: `Account ${account} tries again now, whatever it waits for. Nothing is paid or credited twice.`,
    confirm: "Settle now",
    path: pathOf("accounts", account, "settle"),
    done: `Account ${account} tries again.`,
    reasoned: false,
  });
}

export function pause(account) {
  ask({
    title: `Pause ${account}`,
    text: "Nothing new is begun in this account until it is resumed. What is under way ends; requests are still taken.",
    confirm: "Pause",
    path: pathOf("accounts", account, "pause"),
    done: `Account ${account} is paused.`,
  });
}

/** Return what became of a resumed account: nothing is called done that was not. */
function resumed(account, { was_paused, was_halted }) {
  if (was_halted.length) return `Account ${account} is looked at again, as at the next start.`;
  return was_paused ? `Account ${account} goes on.` : `Account ${account} was neither paused nor halted here.`;
}

export function resume(account) {
  ask({
    title: `Resume ${account}`,
    text: "The account goes on, beginning with what has waited.",
    confirm: "Resume",
    path: pathOf("accounts", account, "resume"),
    done: (answer) => resumed(account, answer),
  });
}

export function resumeHalted(account) {
  ask({
    title: `Resume ${account}`,
    text:
      "Compare the ledger with the books first. What halted is looked at again, as at the next start: an open payment " +
      "is looked up, or in doubt if the engine cannot look it up. It halts again if the cause is still there.",
    confirm: "Resume",
    path: pathOf("accounts", account, "resume"),
    done: (answer) => resumed(account, answer),
    grave: true,
  });
}

export function release(attempt) {
  ask({
    title: `Release ${shortened(attempt.amount)} of ${attempt.account}`,
    text: "The credit is offered to the connector again, under the same key. If it was credited before, it is not again.",
    confirm: "Release",
    path: pathOf("accounts", attempt.account, "attempts", attempt.id, "release"),
    done: `The credit of ${shortened(attempt.amount)} is offered again.`,
  });
}

/** A person looked at the ledger, or at the connector's books: how much of this really moved? */
export function resolve(attempt) {
  const incoming = attempt.direction === "incoming";
  const moved = incoming ? "credited" : "paid";
  const all = shortened(attempt.amount);
  const part = h("input", { inputmode: "decimal", autocomplete: "off", name: "part" });
  const partField = field(`How much was ${moved}`, part, `More than nothing, less than ${all}.`);
  const outcome = h("p", { class: "outcome", role: "status" });
  const choices = [
    ["all", `All of it was ${moved}`],
    ["nothing", `Nothing was ${moved}`],
    ["part", `A part was ${moved}`],
  ].map(([value, label]) =>
    h("label", { class: "choice" }, h("input", { type: "radio", name: "outcome", value, onchange: told }), label),
  );
  const question = incoming ? "What did the connector do?" : "What does the ledger say?";
  const group = h("fieldset", {}, h("legend", {}, question), ...choices);
  part.addEventListener("input", told);
  show(partField, false);

  function chosen() {
    return group.querySelector("input:checked")?.value ?? null;
  }

  function settled() {
    const choice = chosen();
    if (choice === null) throw new RangeError(`Say how much was ${moved}.`);
    if (choice === "all") return attempt.amount;
    if (choice === "nothing") return "0";
    const text = part.value.trim();
    if (!isAmount(text)) throw new RangeError("Write the amount with digits and at most one point.");
    const left = subtract(attempt.amount, text);
    if (isZero(text) || isZero(left) || left.startsWith("-")) {
      throw new RangeError(`A part is more than nothing and less than ${all}.`);
    }
    return text;
  }

  function told() {
    show(partField, chosen() === "part");
    try {
      const left = subtract(attempt.amount, settled());
      const again = incoming ? "is credited again, under a new key" : "is paid again";
      setText(outcome, isZero(left) ? `Nothing will be ${moved} again.` : `${left} ${again}.`);
    } catch {
      setText(outcome, "");
    }
  }

  ask({
    title: `Resolve ${all} of ${attempt.account}`,
    text: `Look at the ${incoming ? "connector" : "ledger"} first: what you say here moves money. ${attempt.reason}`,
    confirm: "Resolve",
    path: pathOf("accounts", attempt.account, "attempts", attempt.id, "resolve"),
    done: `The attempt of ${all} is resolved.`,
    extra: [group, partField, outcome],
    content: () => ({ settled: settled() }),
    grave: true,
  });
}

/** Say in full what is proposed. */
export function proposed({ decision, about, content, token, by, reason }) {
  const said = content.settled === undefined ? "" : `, of which ${shortened(content.settled)} moved`;
  const owner = content.account_id === undefined ? "" : ` to account ${content.account_id}`;
  return `Token ${token} (${by}) proposes to ${decision} ${about}${owner}${said}: ${reason}`;
}

/** A second operator says the same. */
export function confirm(proposal) {
  ask({
    title: `Confirm: ${proposal.decision}`,
    text: `Look for yourself first: what you confirm moves money. ${proposed(proposal)}`,
    confirm: "Confirm",
    path: proposal.path,
    done: "It is decided, by both of you.",
    content: () => proposal.content,
    grave: true,
  });
}

export function dismiss(item) {
  ask({
    title: `${shortened(item.amount)} is not ours`,
    text: `Settlement ${item.settlement_id} waits no longer, and is credited to nobody. It can still be assigned later.`,
    confirm: "Not ours",
    path: "suspense/dismiss",
    done: `${shortened(item.amount)} is dismissed as not ours.`,
    content: () => ({ settlement_id: item.settlement_id }),
  });
}

export function assign(item) {
  const account = h("input", { required: true, autocomplete: "off", spellcheck: "false", name: "account" });
  ask({
    title: `Assign ${shortened(item.amount)}`,
    text: `Settlement ${item.settlement_id} is credited to the account you name, like any payment of its peer.`,
    confirm: "Assign",
    path: "suspense/assign",
    done: `${shortened(item.amount)} is credited to its owner.`,
    extra: [field("Account", account, "As the connector names it.")],
    content: () => {
      if (account.value.trim() === "") throw new RangeError("Name the account.");
      return { settlement_id: item.settlement_id, account_id: account.value.trim() };
    },
    grave: true,
  });
}
