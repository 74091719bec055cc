// SPDX-License-Identifier: MIT
// Registered probes: where they are, whether they are there, what they send, and who uses them.

import { h } from "../base/dom.js";
import { mark, panel } from "../base/widgets.js";
import { frame } from "./overview.js";

export function probes({ model }) {
  return [
    h("h1", { tabindex: "-1", key: "title" }, "Probes"),
    model.probes.length
      ? h("ul", { class: "cards", key: "probes" }, model.probes.map((probe) => h("li", { key: probe.name }, card(probe))))
      : panel("none", "None is registered", { key: "none" }, h("p", null, "Sessions get a probe container of their own. A probe elsewhere is made known with ", h("code", null, "operatorctl probe add NAME HOST:PORT"), ", a camera or a file with ", h("code", null, "operatorctl probe add NAME URL"), ".")),
  ];
}

const card = (probe) =>
  h(
    "article",
    { class: "panel probe" },
    h("header", null, h("h2", null, probe.name), mark(probe.state)),
    h(
      "dl",
      { class: "facts" },
      pair("Address", h("code", null, probe.url.replace(/^tcp:\/\//, ""))),
      pair("Sends", frame(probe) || "–"),
      scale(probe) && pair("Scale", scale(probe)),
      pair("Lease", probe.lease),
      probe.owner && pair("Owner", probe.owner),
      probe.error && pair("Why", probe.error),
      Object.entries(probe.labels ?? {}).map(([name, value]) => pair(name, value)),
      probe.sessions.length > 0 && pair("Used by", probe.sessions.map((id) => [h("a", { href: `#/sessions/${id}`, class: "id" }, id.slice(0, 8)), " "])),
    ),
  );

const scale = ({ frame: { spacing, depth } = {} }) => [spacing && `${spacing.join(" × ")} mm a pixel`, depth && `${depth} mm deep`].filter(Boolean).join(", ");

const pair = (name, value) => h("div", { class: "fact" }, h("dt", null, name), h("dd", null, value));
