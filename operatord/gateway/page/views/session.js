// SPDX-License-Identifier: MIT
// One session: its picture with the mask over it, what its stages use, where the stream is, what they write.

import { h } from "../base/dom.js";
import { bytes, cores, count, duration, fixed, time } from "../base/format.js";
import { button, copyable, curve, fact, panel, phase } from "../base/widgets.js";
import { head } from "./overview.js";
import { picture } from "./picture.js";
import { postMortem, startTimes } from "./ended.js";
import { logs } from "./logs.js";

export function session(app, sight) {
  const { session: shown } = sight;
  if (!shown) return gone(app, sight);
  return [
    h("p", { class: "trail", key: "trail" }, h("a", { href: "#/" }, "Overview"), " / ", shown.phase === "ended" ? h("a", { href: "#/history" }, "History") : "Sessions"),
    title(shown.session_id, phase(shown), actions(app, shown)),
    shown.reason && shown.phase !== "ended" && h("p", { class: "lead", key: "reason" }, `${shown.reason}.`),
    h(
      "div",
      { class: shown.phase === "ended" ? "columns" : "columns even", key: "columns" },
      h("div", { class: "main" }, shown.phase === "ended" ? postMortem(shown) : picture(app, sight), !["ended", "queued"].includes(shown.phase) && stages(app, sight)),
      h("div", { class: "side" }, about(app, shown), shown.location && shown.phase === "running" && location(app, shown), happened(sight), startTimes(shown)),
    ),
    logs(app, sight),
  ];
}

const title = (id, ...more) => h("div", { class: "title", key: "title" }, h("h1", { tabindex: "-1" }, "Session ", h("span", { class: "id" }, id)), more);

function gone(app, sight) {
  const words = sight.isMissing ? `operatord knows no session ${sight.id}: it may have ended long ago.` : "It is being looked for.";
  return [title(sight.id), h("p", { key: "gone" }, words, " ", h("a", { href: "#/" }, "To the overview"))];
}

function actions(app, shown) {
  if (!app.model.owns(shown) || ["ended", "stopping"].includes(shown.phase)) return null;
  const mayExtend = shown.phase === "running" && shown.expires && !shown.unread_since;
  return h("div", { class: "actions" }, mayExtend && button("Extend…", () => app.askExtend(shown)), button("Stop…", () => app.askStop(shown), { class: "danger" }));
}

function about({ model }, shown) {
  const left = shown.expires && -model.since(shown.expires);
  return panel(
    "about",
    "Session",
    {},
    h(
      "dl",
      { class: "facts" },
      fact("Pipeline", shown.pipeline),
      fact("Owner", shown.owner),
      fact("Probe", shown.registered_probe),
      fact("Frames", shown.count && count(shown.count)),
      fact("Age", shown.phase !== "ended" && duration(Math.max(0, model.since(shown.started ?? shown.created)))),
      fact("Place in the queue", shown.phase === "queued" && shown.position && `${shown.position}${shown.estimate === undefined ? "" : `, starts in about ${duration(shown.estimate)}`}`),
      fact("Ends", left && shown.phase !== "ended" && `in ${duration(Math.max(0, left))}${shown.unread_since ? ", unless somebody reads it" : ""}`),
      fact("Started", shown.started && time(shown.started)),
      fact("Ended", shown.ended && time(shown.ended)),
      fact("Served", shown.degraded && "plain, until there is room for segmentation"),
      fact("From a slot", shown.warm && "yes"),
      fact("Network", shown.network && h("code", null, shown.network)),
    ),
  );
}

function location(app, shown) {
  const { location: at } = shown;
  const player = new URL(`sessions/${shown.session_id}/stream.y4m`, document.baseURI).href;
  // The token of a login stays out of what is copied: whoever pastes it has one of their own in the environment.
  const header = app.link.token ? `-headers "Authorization: Bearer $OPERATORD_TOKEN" ` : "";
  return panel(
    "location",
    "Location",
    { aside: `${at.format}${at.tls ? ", TLS" : ""}` },
    copyable(at.url, "the location", app.copy),
    at.token && [h("p", { class: "small" }, "What a consumer says first:"), copyable(JSON.stringify({ type: "open", token: at.token }), "the stream's token", app.copy)],
    at.format === "openigtlink"
      ? h("p", { class: "small" }, "In 3D Slicer: module OpenIGTLinkIF, a new connector of type client, host ", h("code", null, at.host), ", port ", h("code", null, String(at.port)), ", then tick it as active.")
      : [h("p", { class: "small" }, "In a player:"), copyable(`ffplay ${header}'${player}'`, "the player's command", app.copy)],
  );
}

function stages(app, sight) {
  const order = Object.keys(app.model.pipelines.find(({ name }) => name === sight.session.pipeline)?.stages ?? {});
  const all = [...sight.stages].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  if (!all.length) return null;
  const most = Math.max(0.05, ...all.flatMap(([, { curve: values }]) => values));
  return panel(
    "stages",
    "Stages",
    {},
    h("table", null, head("Stage", ["Cores", "number"], ["Cores lately", "wide"], ["Memory", "number"], ["Frames", "wide number"], ["Dropped", "wide number"], ["Readers", "wide number"]), h("tbody", null, all.map(([name, stage]) => row(name, stage, most)))),
  );
}

function row(name, { used, cores: now, curve: values }, most) {
  const reported = (value) => (value === undefined ? "–" : count(value));
  return h(
    "tr",
    { key: name, "data-stage": name },
    h("th", { scope: "row" }, name),
    h("td", { class: "number" }, now === undefined ? "–" : fixed(now, 2)),
    h("td", { class: "wide" }, curve(values, { top: most, most: 30, label: `Cores of ${name} in the last minute, ${now === undefined ? "not known yet" : cores(now)} now` })),
    h("td", { class: "number" }, used.memory === undefined ? "–" : bytes(used.memory)),
    h("td", { class: "wide number" }, reported(used.frames)),
    h("td", { class: "wide number" }, reported(used.dropped)),
    h("td", { class: "wide number" }, reported(used.consumers)),
  );
}

function happened({ happened: events, app }) {
  if (!events.length) return null;
  return panel("happened", "What happened", {}, h("ol", { class: "happened" }, events.slice(-30).map((event) => h("li", { key: event.seq }, h("time", { datetime: event.time }, time(event.time)), h("span", null, told(event, app))))));
}

function told(event) {
  const { type, reason, stage, seconds, consumer, cause, outcome } = event;
  const tell = {
    "session.queued": () => (reason ? `waits: ${reason}` : "is asked for"),
    "session.starting": () => "is being started",
    "session.running": () => "runs: its stream is proven",
    "session.stopping": () => "is being stopped",
    "session.ended": () => `${outcome ?? "ended"} (${cause})${reason ? `: ${reason}` : ""}`,
    "session.expiring": () => `ends soon (${cause}) if nothing is done`,
    "session.stalled": () => `${stage} has delivered nothing for ${duration(seconds)}`,
    "session.held_up": () => `everybody waits for ${consumer}, which has taken nothing for ${duration(seconds)}`,
    "session.attached": () => `${stage} is attached: served in full`,
    "session.detached": () => `${stage} is not attached: ${reason}`,
  };
  return tell[type]?.() ?? type;
}
