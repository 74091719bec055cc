// SPDX-License-Identifier: MIT
// What the stages write, as it comes. Reports of counters are a line a second and stage, so they are shown on request.

import { h } from "../base/dom.js";
import { panel } from "../base/widgets.js";

const SHOWN = 300;

export function logs(app, sight) {
  const { session } = sight;
  if (session.phase === "queued") return null;
  if (!app.model.owns(session)) return panel("logs", "Log", { key: "logs" }, h("p", { class: "empty" }, "Only its owner and operators read what its stages write."));
  const names = [...new Set(sight.lines.map(({ stage }) => stage))].sort();
  const shown = sight.lines.filter((line) => (sight.showsReports || !line.isReport) && (!sight.logStage || line.stage === sight.logStage)).slice(-SHOWN);
  return panel(
    "logs",
    "Log",
    { key: "logs" },
    sight.lines.length > 0 && h("div", { class: "controls" }, choice(app, sight, names), reports(app, sight)),
    sight.logsRefused && h("p", { class: "error" }, sight.logsRefused),
    shown.length > 0 && h("div", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Lines of the log", mount: follow }, h("ol", null, shown.map((line) => row(line, names.indexOf(line.stage))))),
    !shown.length && h("p", { class: "empty" }, sight.lines.length ? "Nothing but reports so far." : "Nothing was written."),
  );
}

const choice = (app, sight, names) =>
  h("label", null, h("span", null, "Stage "), h("select", { onchange: ({ target }) => app.change(() => (sight.logStage = target.value)) }, h("option", { value: "" }, "all"), names.map((name) => h("option", { key: name, value: name }, name))));

const reports = (app, sight) => h("label", null, h("input", { type: "checkbox", checked: sight.showsReports, onchange: ({ target }) => app.change(() => (sight.showsReports = target.checked)) }), " Reports");

const row = ({ serial, stage, time, clock, line }, number) =>
  h("li", { key: serial }, h("time", { datetime: time }, clock), h("b", { class: `stage stage-${number % 4}` }, stage), h("span", null, line));

/** Keep to the newest line, as long as nobody has scrolled away from it. */
function follow(list) {
  let isAtEnd = true;
  const toEnd = () => {
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  };
  list.onscroll = () => {
    isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
  };
  const observer = new MutationObserver(toEnd);
  observer.observe(list.firstChild, { childList: true });
  toEnd();
  return () => observer.disconnect();
}
