// Times for people: how long ago, how soon, and when exactly.

const UNITS = [
  [86400, "day"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** Return a duration in its largest unit: "3 min". */
export function duration(seconds) {
  const size = Math.max(0, seconds);
  for (const [unit, name] of UNITS) {
    if (size >= unit) {
      const count = Math.floor(size / unit);
      return `${count} ${name}${name === "day" && count > 1 ? "s" : ""}`;
    }
  }
  return size >= 0.001 ? `${Math.round(size * 1000)} ms` : "0 s";
}

/** Return when something was, as exactly as it matters: the time today, or also the day. */
export function when(seconds) {
  const then = new Date(seconds * 1000);
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return then.toDateString() === new Date().toDateString() ? time : `${day(seconds)} ${time}`;
}

/** Return the day: "2026-11-25". */
export function day(seconds) {
  const then = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${then.getFullYear()}-${two(then.getMonth() + 1)}-${two(then.getDate())}`;
}

/** Return the same for machines. */
export function iso(seconds) {
  return new Date(seconds * 1000).toISOString();
}
