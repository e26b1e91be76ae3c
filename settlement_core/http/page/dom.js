// What the page is built of. Text only ever becomes text: ids, reasons and details come from strangers.

/** Return an element; `properties` beginning with "on" are listeners, the others attributes; null ones are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Change an element's text only if it differs, so that what a person has marked stays marked. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show or hide an element. */
export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

const rowsOf = new WeakMap();

/**
 * Make the children of `parent` those of `items`, in order. Each item keeps its element for as long as it is there, and
 * with it the focus; if the focus goes with an item, it goes to `refuge`.
 */
export function keyed(parent, items, keyOf, make, refuge = null) {
  const rows = rowsOf.get(parent) ?? new Map();
  rowsOf.set(parent, rows);
  const wanted = new Set(items.map(keyOf));
  for (const [key, row] of rows) {
    if (wanted.has(key)) continue;
    const focused = row.element.contains(document.activeElement);
    row.element.remove();
    rows.delete(key);
    if (focused && refuge !== null) refuge.focus();
  }
  items.forEach((item, place) => {
    const key = keyOf(item);
    if (!rows.has(key)) rows.set(key, make(item));
    const row = rows.get(key);
    row.update(item);
    if (parent.children[place] !== row.element) parent.insertBefore(row.element, parent.children[place] ?? null);
  });
}

let saidLast = 0;

/** Tell the person, also one who does not see, what has become of what they did. */
export function say(text, isBad = false) {
  const box = document.getElementById("said");
  const number = ++saidLast;
  box.classList.toggle("bad", isBad);
  box.textContent = text;
  setTimeout(() => number === saidLast && (box.textContent = ""), isBad ? 15000 : 6000);
}
