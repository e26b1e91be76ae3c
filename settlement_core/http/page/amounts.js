// Amounts are text, as the server writes them, and whole numbers of BigInt: never floats, which lose digits.

function parts(text) {
  const match = /^(\d+)(?:\.(\d+))?$/.exec(text);
  if (match === null) throw new RangeError("not an amount");
  return [match[1], match[2] ?? ""];
}

function scaled(text, scale) {
  const [whole, fraction] = parts(text);
  return BigInt(whole + fraction.padEnd(scale, "0"));
}

function combine(one, other, combined) {
  const scale = Math.max(parts(one)[1].length, parts(other)[1].length);
  const result = combined(scaled(one, scale), scaled(other, scale));
  const sign = result < 0n ? "-" : "";
  const digits = (result < 0n ? -result : result).toString().padStart(scale + 1, "0");
  return sign + shortened(scale ? `${digits.slice(0, -scale)}.${digits.slice(-scale)}` : digits);
}

/** Return the exact sum. */
export function add(one, other) {
  return combine(one, other, (a, b) => a + b);
}

/** Return the exact difference, with a minus sign if it is negative. */
export function subtract(one, other) {
  return combine(one, other, (a, b) => a - b);
}

/** Tell whether this is nothing at all. */
export function isZero(text) {
  return /^0*(\.0*)?$/.test(text);
}

/** Tell whether a person has written an amount as the server takes it. */
export function isAmount(text) {
  return /^[0-9]+(\.[0-9]+)?$/.test(text);
}

/** Return the same amount without the zeros at its end. */
export function shortened(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
