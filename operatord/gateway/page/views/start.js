// SPDX-License-Identifier: MIT
// The form of a start. Whatever is chosen is asked about at once, without starting anything: whether it would start now,
// wait or be refused, and why.

import { h } from "../base/dom.js";
import { bytes, cores, count, duration, number, plural } from "../base/format.js";
import { mark, panel } from "../base/widgets.js";

const PAUSE = 250; // ms after the last key before the daemon is asked
const SHORTAGE = [
  ["queue", "wait for room"],
  ["refuse", "say so, and do not wait"],
  ["degrade", "serve it plain until there is room"],
];

export class StartForm {
  chosen = { pipeline: "", probe: "", count: "", format: "json", on_shortage: "queue", ttl: "" };
  env = {};
  /** What the daemon says to it: `{plan}` or `{error}`; null while it is asked. */
  verdict = null;
  isSending = false;
  #timer = 0;
  #asked = 0;

  constructor(app) {
    this.app = app;
  }

  get pipeline() {
    const { pipelines } = this.app.model;
    return pipelines.find(({ name }) => name === this.chosen.pipeline) ?? pipelines.find(({ name }) => name === "segmented") ?? pipelines[0];
  }

  /** The params of a session.start: only what was chosen. */
  params() {
    const { probe, format, on_shortage, ttl } = this.chosen;
    const env = Object.fromEntries(
      Object.keys(this.pipeline.stages)
        .map((stage) => [stage, filled(this.env[stage] ?? {}, this.pipeline.stages[stage].allow_env)])
        .filter(([, values]) => Object.keys(values).length),
    );
    return {
      pipeline: this.pipeline.name,
      ...(probe && { probe }),
      ...(this.chosen.count && { count: number(this.chosen.count) }),
      ...(format !== "json" && { format }),
      ...(on_shortage !== "queue" && { on_shortage }),
      ...(ttl && { lease: { ttl: number(ttl) } }),
      ...(Object.keys(env).length && { env }),
    };
  }

  choose(name, value) {
    this.app.change(() => (this.chosen[name] = value));
    this.ask();
  }

  set(stage, key, value) {
    this.env[stage] = { ...this.env[stage], [key]: value };
    this.ask();
  }

  /** Have the daemon say what it would do, once nobody types any more. */
  ask(pause = PAUSE) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#plan(), pause);
  }

  async #plan() {
    if (!this.pipeline || !this.app.link.isUp) return;
    const asked = (this.#asked += 1);
    const verdict = await this.app.link.call("session.plan", this.params()).then(
      (plan) => ({ plan }),
      (error) => ({ error }),
    );
    if (asked === this.#asked) this.app.change(() => (this.verdict = verdict));
  }

  async send(event) {
    event.preventDefault();
    if (this.isSending) return;
    this.app.change(() => (this.isSending = true));
    try {
      const { session_id: id } = await this.app.link.call("session.start", { ...this.params(), wait: "accepted" });
      this.app.started.add(id);
      location.hash = `#/sessions/${id}`;
    } catch (error) {
      this.verdict = { error };
    } finally {
      this.app.change(() => (this.isSending = false));
    }
  }

  close() {
    clearTimeout(this.#timer);
    this.#asked += 1;
  }
}

const filled = (values, allowed) => Object.fromEntries(Object.entries(values).filter(([key, value]) => value !== "" && allowed.includes(key)));

export function start(app, form) {
  const { model } = app;
  if (!model.mayStart) return [h("h1", { tabindex: "-1", key: "title" }, "Start a session"), h("p", { key: "no" }, "A viewer looks, and does not start sessions. A token with the role user does.")];
  if (!form.pipeline) return [h("h1", { tabindex: "-1", key: "title" }, "Start a session"), h("p", { key: "no" }, "The pipelines are being listed.")];
  return [
    h("h1", { tabindex: "-1", key: "title" }, "Start a session"),
    h("form", { class: "start", key: "form", onsubmit: (event) => form.send(event), novalidate: true }, h("div", { class: "columns" }, h("div", { class: "main" }, pipelines(model, form), stream(model, form), environment(form)), h("div", { class: "side" }, verdict(form, app)))),
  ];
}

function pipelines({ pipelines: all, status }, form) {
  return h(
    "fieldset",
    { class: "panel choices" },
    h("legend", null, "Pipeline"),
    all.map(({ name, stages }) => {
      const ready = status.warm[name]?.ready ?? 0;
      return h(
        "label",
        { key: name },
        h("input", { type: "radio", name: "pipeline", value: name, checked: form.pipeline.name === name, onchange: () => form.choose("pipeline", name) }),
        h("span", null, h("b", null, name), h("span", { class: "muted" }, Object.keys(stages).join(" → ")), ready > 0 && h("span", { class: "tag" }, `${plural(ready, "warm slot")}`)),
      );
    }),
  );
}

function stream({ probes }, form) {
  const hasProbe = "probe" in form.pipeline.stages;
  return h(
    "fieldset",
    { class: "panel fields" },
    h("legend", null, "Stream"),
    hasProbe && select(form, "probe", "Probe", [["", "a container of its own"], ...probes.map(({ name, state }) => [name, `${name} (${state})`])]),
    input(form, "count", "Frames", { inputmode: "numeric", placeholder: "as configured" }),
    select(form, "format", "Format", [["json", "json"], ["y4m", "y4m (players)"]]),
    select(form, "on_shortage", "If there is no room", SHORTAGE),
    input(form, "ttl", "Time limit in seconds", { inputmode: "decimal", placeholder: "none" }, "params.lease"),
  );
}

function select(form, name, label, options) {
  return field(form, name, label, `params.${name}`, (props) => h("select", { ...props, onchange: ({ target }) => form.choose(name, target.value) }, options.map(([value, text]) => h("option", { key: value, value, selected: form.chosen[name] === value }, text))));
}

function input(form, name, label, more, path = `params.${name}`) {
  return field(form, name, label, path, (props) => h("input", { ...props, ...more, value: form.chosen[name], autocomplete: "off", oninput: ({ target }) => form.choose(name, target.value.trim()) }));
}

/** A labelled control; what the daemon says of its param stands below it. */
function field(form, name, label, path, control) {
  const wrong = errorAt(form, path);
  const id = `field-${name}`;
  return h("div", { class: "field", key: name }, h("label", { for: id }, label), control({ id, name, "aria-invalid": wrong ? "true" : null, "aria-describedby": wrong ? `${id}-error` : null }), wrong && h("p", { class: "error", id: `${id}-error` }, wrong));
}

function errorAt({ verdict: said }, path) {
  const at = said?.error?.data?.path;
  return at && (at === path || at.startsWith(`${path}.`)) ? said.error.message.replace(`${at}: `, "") : null;
}

function environment(form) {
  const stages = Object.entries(form.pipeline.stages).filter(([stage, { allow_env }]) => allow_env.length && !(stage === "probe" && form.chosen.probe));
  return stages.map(([stage, { allow_env }]) =>
    h(
      "fieldset",
      { class: "panel fields", key: stage },
      h("legend", null, `Settings of ${stage}`),
      allow_env.map((key) => field(form, `${stage}-${key}`, key, `params.env.${stage}.${key}`, (props) => h("input", { ...props, value: form.env[stage]?.[key] ?? "", placeholder: "as configured", autocomplete: "off", spellcheck: "false", oninput: ({ target }) => form.set(stage, key, target.value.trim()) }))),
    ),
  );
}

function verdict(form, app) {
  const { verdict: said, isSending } = form;
  return panel(
    "verdict",
    "What would happen",
    { class: "panel verdict" },
    h("div", { role: "status" }, !said ? h("p", null, "operatord is being asked.") : said.error ? refused(said.error) : planned(said.plan, app)),
    h("button", { class: "primary", disabled: isSending }, isSending ? "Starting…" : "Start"),
  );
}

const refused = ({ message, data }) => [h("p", { class: "decision" }, mark("failed", "It cannot start")), h("p", null, `${message}.`), facts(data ?? {})];

const DECISIONS = { start: ["running", "It would start now"], queue: ["queued", "It would wait"], refuse: ["failed", "It would be refused"] };

function planned({ decision, explanation }, app) {
  const { reason, position, estimate, degraded, expected_seconds: lasts } = explanation;
  const [kind, word] = DECISIONS[decision] ?? ["queued", decision];
  return [
    h("p", { class: "decision" }, mark(kind, word)),
    degraded && h("p", null, "It would be served plain, until there is room for segmentation."),
    reason && h("p", null, `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`),
    position !== undefined && h("p", null, `Place ${position} in the queue${estimate === undefined ? "; nobody can tell for how long" : `, for about ${duration(estimate)}`}.`),
    facts(explanation, app),
    lasts !== undefined && h("p", { class: "muted" }, `Its stream would last ${duration(lasts)}.`),
  ];
}

function facts({ reservation = {}, held_by: holders = [] }) {
  const write = { cpus: (value) => `${cores(value)} cores`, memory: bytes, sessions: (value) => plural(value, "place"), gpus: (value) => plural(value, "graphics card") };
  const reserved = Object.entries(reservation).filter(([name, value]) => value && write[name]);
  return [
    holders.length > 0 && h("p", { class: "small" }, "Held by ", holders.slice(0, 8).map((id) => [h("a", { href: `#/sessions/${id}`, class: "id" }, id.slice(0, 8)), " "]), holders.length > 8 && `and ${count(holders.length - 8)} more`),
    reserved.length > 0 && h("p", { class: "muted" }, "It would reserve ", reserved.map(([name, value]) => write[name](value)).join(", "), "."),
  ];
}
