// SPDX-License-Identifier: MIT
// Questions before something is done that cannot be undone. The browser keeps the keyboard inside while one is open.

import { h } from "../base/dom.js";
import { button } from "../base/widgets.js";

/** A dialog: `title`, `body`, the `verb` on its button, what to `act` on, and what is wrong, if anything. */
export function dialog(app, { number, title, body, verb, danger, act, error }) {
  const submit = async (event) => {
    event.preventDefault();
    await act(event.target.elements);
  };
  return h(
    "dialog",
    { key: number, "aria-labelledby": "dialog-title", mount: show, onclose: () => app.closeDialog(number) },
    h(
      "form",
      { onsubmit: submit },
      h("h2", { id: "dialog-title" }, title),
      body,
      error && h("p", { class: "error", role: "alert" }, error),
      h("div", { class: "actions" }, button("Not now", () => app.closeDialog()), h("button", { class: danger ? "danger" : "primary" }, verb)),
    ),
  );
}

/** Open it; when it goes, the keyboard is where it was. */
function show(element) {
  const before = document.activeElement;
  element.showModal();
  return () => before?.isConnected && before.focus();
}

export const stopBody = (session) => [
  h("p", null, session.phase === "queued" ? "It leaves the queue, and nothing has been made of it." : "Its stages end, whoever reads its stream, and everything of it is removed."),
  h("p", { class: "muted" }, `${session.pipeline}, of ${session.owner ?? "nobody known"}`),
];

export const extendBody = () => [
  h("label", { for: "ttl" }, "Seconds from now"),
  h("input", { id: "ttl", name: "ttl", inputmode: "decimal", value: "60", required: true, autocomplete: "off" }),
];
