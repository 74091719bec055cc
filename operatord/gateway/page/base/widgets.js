// SPDX-License-Identifier: MIT
// Small things that several views show: marks of phases and outcomes, bars, curves, buttons.

import { h } from "./dom.js";

/** A shape and a word: nobody has to tell colours apart. */
export const mark = (kind, word = kind) => h("span", { class: `mark ${kind}` }, h("i", { "aria-hidden": "true" }), word);

/** How far a session is, or how it ended. */
export const phase = (session) => (session.phase === "ended" ? mark(session.outcome ?? "ended") : mark(session.phase));

/** The way to a session's view. Its first digits will do to tell it from others. */
export const link = (session) =>
  h("a", { href: `#/sessions/${session.session_id}`, class: "id", title: `session ${session.session_id}` }, session.session_id.slice(0, 8));

/** A part of a view, with a heading; `aside` is a word beside that. */
export const panel = (id, title, { aside, ...props } = {}, ...children) =>
  h(
    "section",
    { class: "panel", "aria-labelledby": `${id}-title`, id, ...props },
    h("header", null, h("h2", { id: `${id}-title` }, title), aside && h("p", { class: "aside" }, aside)),
    children,
  );

/** A bar of what is reserved, with a thinner one below of what is really used. Shares are from 0 to 1. */
export const bar = (reserved, used) =>
  h(
    "div",
    { class: "bar", "aria-hidden": "true" },
    h("i", { class: "reserved", style: { "inline-size": percent(reserved) } }),
    used !== undefined && h("i", { class: "used", style: { "inline-size": percent(used) } }),
  );

const percent = (share) => `${(100 * Math.min(1, Math.max(0, share || 0))).toFixed(1)}%`;

/**
 * A curve of values from 0 to `top`, the newest at the right; `most` values are as wide as it is. `places` says how far
 * each is from the newest, unless they follow one another.
 */
export function curve(values, { top, most, label, places, filled = true }) {
  const high = top || Math.max(...values, 1e-9);
  const step = 100 / Math.max(1, most - 1);
  const across = (i) => (100 - (places?.[i] ?? values.length - 1 - i) * step).toFixed(2);
  const points = values.map((value, i) => `${across(i)},${(30 - 29 * Math.min(1, value / high)).toFixed(2)}`);
  const left = across(0);
  return h(
    "svg",
    { class: "curve", viewBox: "0 0 100 30", preserveAspectRatio: "none", ...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" }) },
    filled && points.length > 1 && h("polygon", { points: `${left},30 ${points.join(" ")} 100,30` }),
    points.length > 1 && h("polyline", { points: points.join(" ") }),
  );
}

/** A button that says what it does. */
export const button = (text, onclick, props = {}) => h("button", { type: "button", onclick, ...props }, text);

/** A pair of a list of facts; nothing if there is nothing to tell. */
export const fact = (name, value, props) =>
  value === undefined || value === null || value === false || value === "" ? null : h("div", { class: "fact", key: name, ...props }, h("dt", null, name), h("dd", null, value));

/** A text to copy, such as a command. */
export const copyable = (text, label, copy) =>
  h("div", { class: "copyable" }, h("code", { tabindex: "0" }, text), button("Copy", () => copy(text, label), { "aria-label": `Copy ${label}` }));
