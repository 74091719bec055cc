// SPDX-License-Identifier: MIT
// Asks for a token, where the daemon asks for one.

import { h } from "../base/dom.js";

export function login(link) {
  const submit = (event) => {
    event.preventDefault();
    const token = event.target.elements.token.value.trim();
    if (token) link.login(token);
  };
  const wrong = Boolean(link.reason);
  return h(
    "section",
    { class: "panel login", "aria-labelledby": "login-title", key: "login" },
    h("h1", { id: "login-title", tabindex: "-1" }, "Log in"),
    h("p", null, "operatord asks who you are. A token comes from ", h("code", null, "operatord token new"), " on its machine."),
    h(
      "form",
      { onsubmit: submit },
      h("label", { for: "token" }, "Token"),
      h("input", { id: "token", name: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false", placeholder: "opd_…", "aria-invalid": wrong ? "true" : null, "aria-describedby": wrong ? "login-error" : "login-note", mount: (input) => input.focus() }),
      wrong && h("p", { class: "error", id: "login-error", role: "alert" }, link.reason),
      h("button", { class: "primary" }, "Log in"),
    ),
    h("p", { class: "note", id: "login-note" }, "It is kept for this tab, until that is closed or you log out."),
  );
}
