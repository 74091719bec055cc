// SPDX-License-Identifier: MIT
// How numbers, sizes and times are written. All of the page is in English, so its numbers are, too.

const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const calendar = new Intl.DateTimeFormat("en", { day: "numeric", month: "short" });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A number of things, with thousands apart. */
export const count = (number) => whole.format(number);

/** A number with so many digits after the point. */
export const fixed = (number, digits) => number.toFixed(digits);

/** Cores: 0.06, 1.6, 24. */
export const cores = (number) => (number === 0 ? "0" : fixed(number, number < 10 ? 2 : number < 100 ? 1 : 0).replace(/\.?0+$/, "") || "0");

/** Bytes with the unit that leaves one to four digits. */
export function bytes(number) {
  let power = 0;
  let value = number;
  while (Math.abs(value) >= 1024 && power < UNITS.length - 1) {
    value /= 1024;
    power += 1;
  }
  return `${fixed(value, power === 0 || value >= 100 ? 0 : 1)} ${UNITS[power]}`;
}

/** Seconds as people say them: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds < 0.95) return `${fixed(Math.max(0, seconds), 1)} s`;
  const all = Math.round(seconds);
  if (all < 60) return `${all} s`;
  if (all < 3600) return two(all, 60, "min", 1, "s");
  if (all < 86400) return two(all, 3600, "h", 60, "min");
  return two(all, 86400, "d", 3600, "h");
}

function two(seconds, large, largeName, small, smallName) {
  const rest = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${largeName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

/** Milliseconds of a step. */
export const milliseconds = (ms) => (ms >= 1000 ? `${fixed(ms / 1000, 2)} s` : `${fixed(ms, ms < 10 ? 1 : 0)} ms`);

/** The time of day where the reader is, with the date unless that is today. */
export function time(text, now = Date.now()) {
  const then = new Date(text);
  const today = new Date(now).toDateString() === then.toDateString();
  return today ? clock.format(then) : `${calendar.format(then)}, ${clock.format(then)}`;
}

/** The first digits of a session's id, as people say it. */
export const short = (id) => id.slice(0, 5);

/** One thing, or more of them. */
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** What looks like a number is one; the daemon says what is wrong with anything else. */
export const number = (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
