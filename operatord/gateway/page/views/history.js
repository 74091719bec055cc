// SPDX-License-Identifier: MIT
// All sessions that have ended and are remembered, the newest first; each leads to its post-mortem.

import { h } from "../base/dom.js";
import { count, duration, time } from "../base/format.js";
import { button, link, panel, phase } from "../base/widgets.js";
import { head } from "./overview.js";

export function history(app) {
  const { model } = app;
  const over = model.ended();
  return [
    h("h1", { tabindex: "-1", key: "title" }, "History"),
    panel(
      "history",
      "Sessions that have ended",
      { aside: model.next ? `the newest ${count(over.length)}` : count(over.length), key: "history" },
      over.length
        ? h("table", null, head("Outcome", "Session", ["Pipeline"], ["Owner", "wide"], ["Frames", "wide number"], ["Lasted", "wide number"], ["Why", "wide"], ["Ended", "number"]), h("tbody", null, over.map(row)))
        : h("p", { class: "empty" }, "None that is remembered."),
      model.next && h("p", { class: "more" }, button("Show more", () => app.attempt(() => model.listMore(model.next)))),
    ),
  ];
}

function row(session) {
  const { started, ended } = session;
  const lasted = started && ended ? duration((Date.parse(ended) - Date.parse(started)) / 1000) : "–";
  return h(
    "tr",
    { key: session.session_id },
    h("td", null, phase(session)),
    h("th", { scope: "row" }, link(session)),
    h("td", null, session.pipeline),
    h("td", { class: "wide" }, session.owner ?? "–"),
    h("td", { class: "wide number" }, session.frames === undefined ? "–" : count(session.frames)),
    h("td", { class: "wide number" }, lasted),
    h("td", { class: "wide why" }, session.reason ?? session.cause ?? ""),
    h("td", { class: "number" }, ended ? time(ended) : ""),
  );
}
