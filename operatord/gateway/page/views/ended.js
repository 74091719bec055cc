// SPDX-License-Identifier: MIT
// Why a session ended, what to do about it, and where the time of its start went.

import { h } from "../base/dom.js";
import { bytes, cores, count, duration, milliseconds, time } from "../base/format.js";
import { fact, panel } from "../base/widgets.js";

const PHASES = ["queued", "starting", "running", "stopping", "ended"];

export function postMortem(session) {
  const { post_mortem: found, exit_codes: codes = {} } = session;
  return panel(
    "post-mortem",
    "Post-mortem",
    { aside: session.cause },
    h("p", { class: "lead" }, sentence(session.reason ?? `it is ${session.outcome}`)),
    found?.advice && h("p", { class: "advice" }, h("b", null, "What to do: "), found.advice),
    h("dl", { class: "facts" }, fact("Stage at fault", found?.stage), fact("Frames delivered", session.frames === undefined ? undefined : count(session.frames)), Object.entries(codes).map(([stage, code]) => fact(`Exit code of ${stage}`, code === null ? "the container vanished" : String(code)))),
    found && phases(found.phases),
    found && usage(found.usage),
    found && lastLines(found.log),
  );
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

function phases(at) {
  const came = PHASES.filter((phase) => at[phase]);
  return [
    h("h3", null, "When"),
    h("ol", { class: "phases" }, came.map((phase, i) => h("li", { key: phase }, h("span", null, phase), h("time", { datetime: at[phase] }, time(at[phase])), came[i + 1] && h("span", { class: "muted" }, `for ${lasted(at[phase], at[came[i + 1]])}`)))),
  ];
}

const lasted = (from, to) => duration((Date.parse(to) - Date.parse(from)) / 1000);

function usage(used) {
  const all = Object.entries(used);
  if (!all.length) return null;
  return [h("h3", null, "The most that was used"), h("dl", { class: "facts" }, all.map(([stage, peak]) => fact(stage, `${cores(peak.cpus)} cores, ${bytes(peak.memory)}`)))];
}

function lastLines(log) {
  const all = Object.entries(log).filter(([, lines]) => lines.length);
  return all.map(([stage, lines]) => [h("h3", { key: `title of ${stage}` }, "Last lines of ", stage), h("pre", { key: stage, class: "lines", tabindex: "0", "aria-label": `Last lines of ${stage}` }, lines.join("\n"))]);
}

/** A bar for each step of the start; parts of a step follow it, as a lighter one. */
export function startTimes({ timings = {}, warm }) {
  const steps = Object.entries(timings).filter(([name, ms]) => name !== "total" && ms >= 0.05);
  if (!timings.total || !steps.length) return null;
  return panel(
    "start-times",
    "Its start",
    { aside: `${milliseconds(timings.total)}${warm ? ", from a slot" : ""}` },
    h("dl", { class: "steps" }, steps.map(([name, ms]) => h("div", { key: name, class: name.includes(".") ? "part" : "" }, h("dt", null, name.split(".").pop()), h("dd", null, h("i", { "aria-hidden": "true", style: { "inline-size": `${((100 * ms) / timings.total).toFixed(1)}%` } }), h("span", null, milliseconds(ms)))))),
  );
}
