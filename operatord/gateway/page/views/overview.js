// SPDX-License-Identifier: MIT
// The first view: what runs, who waits and why, how full the machine is, and what ended lately.

import { h } from "../base/dom.js";
import { bytes, cores, count, duration, plural, time } from "../base/format.js";
import { bar, button, curve, link, mark, panel, phase } from "../base/widgets.js";

const SHOWN = 200; // sessions in the table; nobody reads more
const RECENT = 6;

export function overview(app) {
  const { model } = app;
  return [
    h("h1", { tabindex: "-1", key: "title", class: "only-read" }, "Overview"),
    notices(model),
    h(
      "div",
      { class: "columns", key: "columns" },
      h("div", { class: "main" }, sessions(app), queue(app), recent(model)),
      h("div", { class: "side" }, machine(model), slots(model), probes(model)),
    ),
  ];
}

/** What somebody should know before all else. */
export function notices({ status }) {
  const { engine, pressure, draining, warnings, troubles } = status;
  const said = [
    engine.state !== "up" && ["bad", `The container engine is ${engine.state}: ${engine.reason ?? "it does not answer"}.`],
    pressure !== "none" && ["bad", `The machine is short of ${pressure}: nothing new starts.`],
    draining && ["warn", "operatord is draining: no session is let in, and those that run finish."],
    ...troubles.map(({ task, times, error, last }) => ["warn", `${task} broke ${plural(times, "time")}, the last at ${time(last)}: ${error}`]),
    ...warnings.map((text) => ["info", text]),
  ].filter(Boolean);
  return said.length > 0 && h("ul", { class: "notices", key: "notices" }, said.map(([kind, text]) => h("li", { class: kind, key: text }, mark(kind, WORDS[kind]), h("span", null, sentence(text)))));
}

const WORDS = { bad: "Trouble", warn: "Warning", info: "Note" };
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function sessions({ model }) {
  const living = model.living().filter((session) => session.phase !== "queued");
  const aside = living.length ? `${count(living.length)} of ${count(model.status.capacity.sessions)}` : null;
  const nothing = h("p", { class: "empty" }, model.isListed ? "No session runs." : "Sessions are being listed.");
  return panel(
    "sessions",
    "Sessions",
    { aside },
    living.length
      ? h("table", { class: "sessions" }, head("Phase", "Session", ["Pipeline"], ["Owner", "wide"], ["Frames", "wide number"], ["Age", "number"], ["Ends", "wide number"]), h("tbody", null, living.slice(0, SHOWN).map((session) => row(model, session))))
      : nothing,
    living.length > SHOWN && h("p", { class: "note" }, `and ${count(living.length - SHOWN)} more`),
  );
}

/** A table's head: names, each with a class if it is in brackets. */
export const head = (...names) => h("thead", null, h("tr", null, names.map((each) => h("th", { scope: "col", class: Array.isArray(each) ? (each[1] ?? null) : null }, Array.isArray(each) ? each[0] : each))));

function row(model, session) {
  const { started, created, expires } = session;
  const left = expires ? -model.since(expires) : null;
  return h(
    "tr",
    { key: session.session_id },
    h("td", null, phase(session)),
    h("th", { scope: "row" }, link(session)),
    h("td", null, session.pipeline, session.degraded && h("span", { class: "tag" }, "degraded"), session.warm && h("span", { class: "tag" }, "warm")),
    h("td", { class: "wide" }, session.owner ?? "–"),
    h("td", { class: "wide number" }, session.count ? count(session.count) : "–"),
    h("td", { class: "number" }, duration(Math.max(0, model.since(started ?? created)))),
    h("td", { class: "wide number" }, left === null ? "–" : `in ${duration(Math.max(0, left))}${session.unread_since ? " if unread" : ""}`),
  );
}

function queue(app) {
  const { model } = app;
  const waiting = model.queue();
  const { length, limit, reason, attaching } = model.status.queue;
  if (!waiting.length && !attaching) return panel("queue", "Queue", { aside: "empty" });
  return panel(
    "queue",
    "Queue",
    { aside: `${count(length)} of ${count(limit)}` },
    reason && h("p", { class: "note" }, sentence(reason)),
    attaching > 0 && h("p", { class: "note" }, `${plural(attaching, "degraded session waits", "degraded sessions wait")} for room for the rest.`),
    h("ol", { class: "queue" }, waiting.slice(0, SHOWN).map((session) => waits(app, session))),
  );
}

function waits(app, session) {
  const { model } = app;
  const when = session.estimate === undefined ? "nobody can tell when" : session.estimate < 1 ? "at any moment" : `in about ${duration(session.estimate)}`;
  return h(
    "li",
    { key: session.session_id },
    h("span", { class: "place" }, session.position ?? "–"),
    h(
      "div",
      null,
      h("p", null, link(session), ` ${session.pipeline} `, h("span", { class: "muted" }, `${session.owner ?? ""}, waits for ${duration(Math.max(0, model.since(session.created)))}; starts ${when}`)),
      session.reason && h("p", { class: "reason" }, sentence(session.reason)),
    ),
    model.owns(session) && button("Leave", () => app.askStop(session), { "aria-label": `Take session ${session.session_id} out of the queue` }),
  );
}

function recent(model) {
  const over = model.ended().slice(0, RECENT);
  return panel(
    "recent",
    "Ended lately",
    { aside: h("a", { href: "#/history" }, "All of the history") },
    over.length ? h("table", null, head("Outcome", "Session", ["Pipeline"], ["Why", "wide"], ["Ended", "number"]), h("tbody", null, over.map(endedRow))) : h("p", { class: "empty" }, "None that is remembered."),
  );
}

const endedRow = (session) =>
  h(
    "tr",
    { key: session.session_id },
    h("td", null, phase(session)),
    h("th", { scope: "row" }, link(session)),
    h("td", null, session.pipeline),
    h("td", { class: "wide why" }, session.reason ?? session.cause ?? ""),
    h("td", { class: "number" }, session.ended ? time(session.ended) : ""),
  );

const DIMENSIONS = { cpus: ["Cores", cores], memory: ["Memory", bytes], sessions: ["Sessions", count], gpus: ["Graphics cards", count], subnets: ["Networks", count], ports: ["Ports", count] };

function machine(model) {
  const { status, curves } = model;
  const { host, measured, engine, uptime } = status;
  const used = host.cpus ? { cpus: (measured.cpu_percent / 100) * host.cpus, memory: host.memory - measured.memory_available } : {};
  const shown = Object.keys(DIMENSIONS).filter((name) => status.capacity[name]);
  return panel(
    "machine",
    "Machine",
    { aside: host.hostname ?? engine.name },
    h("p", { class: "legend", "aria-hidden": "true" }, h("i", { class: "reserved" }), "reserved", h("i", { class: "used" }), "in use, by anybody"),
    shown.map((name) => dimension(name, status, used[name], curves[name])),
    h("p", { class: "muted small" }, `${engine.name} ${engine.version}`, measured.load && `, load ${measured.load.map((each) => each.toFixed(2)).join(" ")}`, measured.disk_free !== undefined && `, ${bytes(measured.disk_free)} of disk free`, `, operatord ${status.version} for ${duration(uptime)}`),
  );
}

function dimension(name, { capacity, reserved }, used, values) {
  const [label, write] = DIMENSIONS[name];
  const all = capacity[name];
  return h(
    "div",
    { class: "dimension", key: name, "data-dimension": name },
    h("h3", null, label),
    h("p", null, h("b", null, write(reserved[name] ?? 0)), " of ", write(all), used !== undefined && h("span", { class: "muted" }, `, ${write(used)} in use`)),
    bar((reserved[name] ?? 0) / all, used === undefined ? undefined : used / all),
    values?.length > 1 && curve(values, { top: 1, most: 120 }),
  );
}

function slots({ status, pipelines }) {
  const rows = [...pipelines.map(({ name }) => [name, status.warm[name]]), ["networks", status.networks]];
  const all = rows.filter(([, slot]) => slot?.ready || slot?.target);
  return panel(
    "slots",
    "Warm slots",
    { aside: all.length ? null : "none are kept" },
    all.length > 0 && h("dl", { class: "slots" }, all.map(([name, slot]) => h("div", { key: name }, h("dt", null, name), h("dd", null, dots(slot), h("span", null, `${slot.ready} of ${slot.target} ready`))))),
  );
}

const dots = ({ ready, target }) => h("span", { class: "dots", "aria-hidden": "true" }, Array.from({ length: Math.min(12, Math.max(ready, target)) }, (_, i) => h("i", { class: i < ready ? "full" : "" })));

function probes({ probes: known }) {
  const down = known.filter(({ state }) => state === "down").length;
  const aside = h("a", { href: "#/probes" }, known.length ? `${plural(known.length, "probe")}` : "none registered");
  return panel(
    "probes",
    "Probes",
    { aside },
    known.length > 0 && h("ul", { class: "probes" }, known.slice(0, 8).map((probe) => h("li", { key: probe.name }, mark(probe.state), h("span", null, probe.name), h("span", { class: "muted small" }, frame(probe))))),
    down > 0 && h("p", { class: "only-read" }, `${plural(down, "probe")} down`),
  );
}

/** What a probe sends, in a few words. */
export const frame = ({ frame: sent = {} }) => [picture(sent), sent.encoding, sent.type, sent.fps && `${sent.fps} frames/s`].filter(Boolean).join(", ");

const picture = ({ width, height, format }) => width && `${width}×${height}${format && format !== "gray8" ? ` ${format}` : ""}`;
