// What one operator proposed and a second one has to confirm, where the server asks for four eyes.

import { get } from "./api.js";
import { shortened } from "./amounts.js";
import * as dialogs from "./dialogs.js";
import { h, keyed, setText, show } from "./dom.js";
import { accountLink, moment, section } from "./parts.js";
import { when } from "./times.js";

/** Return the list; there is none to see while nothing is proposed. */
export function proposals() {
  const list = h("ul", { class: "list" });
  const { element, heading } = section("Waits for a second operator", "card proposals", list);
  show(element, false);
  return {
    element,
    async update() {
      const found = await get("proposals");
      keyed(list, found, (one) => `${one.path} ${JSON.stringify(one.content)}`, row, heading);
      show(element, found.length > 0);
    },
  };
}

function row(first) {
  const amount = first.amount === null ? "an unknown sum" : shortened(first.amount);
  const whose = first.account_id === "" ? h("span", { class: "account" }, first.about) : accountLink(first.account_id);
  const reason = h("p", { class: "reason" });
  const since = moment();
  const confirm = h(
    "button",
    { type: "button", "aria-label": `Confirm: ${first.decision} ${amount}`, onclick: () => dialogs.confirm(first) },
    "Confirm",
  );
  const what = h(
    "div",
    { class: "what" },
    h("span", { class: "kind" }, first.decision),
    h("strong", { class: "amount" }, amount),
    whose,
    since.element,
  );
  return {
    element: h("li", { class: "waits" }, what, reason, h("div", { class: "actions" }, confirm)),
    update(next) {
      setText(reason, dialogs.proposed(next));
      since.update(next.at, when(next.at));
    },
  };
}
