// SPDX-License-Identifier: MIT
// What is gathered of one session while somebody looks at it: its picture, what its stages use and write, what happened.

import { Watch } from "../stream/watch.js";
import { time } from "./format.js";

const EVERY = 2000; // ms between two looks at what the stages use
const REMEMBERED = 30; // of these
const LINES = 1000; // of the log, the newest

export class Sight {
  stages = new Map();
  lines = [];
  happened = [];
  logsRefused = "";
  showsReports = false;
  /** The one stage whose lines are shown; empty for all. */
  logStage = "";
  /** Whether the daemon knows no such session. */
  isMissing = false;
  #timer = 0;
  #serial = 0;
  #subscriptions = [];
  #turn = 0;

  constructor(id, app) {
    this.id = id;
    this.app = app;
    this.watch = new Watch(app.streamUrl(id), () => app.link.token, app.changed);
    this.startedHere = app.started.has(id);
  }

  get session() {
    return this.app.model.sessions.get(this.id);
  }

  /** Begin to gather; again with each new connection. */
  async open() {
    const turn = (this.#turn += 1);
    this.#subscriptions = [];
    await this.app.model.refresh(this.id);
    this.isMissing = !this.session;
    if (this.isMissing || turn !== this.#turn) return;
    this.#timer ||= setInterval(() => this.#look(), EVERY);
    await Promise.all([this.#look(), this.#followEvents(), this.#followLogs()]);
  }

  close() {
    this.#turn += 1;
    clearInterval(this.#timer);
    this.watch.close();
    for (const subscription of this.#subscriptions) this.#unsubscribe(subscription);
  }

  /** Subscribe to something, unless there is another connection by then, or nobody looks any more. */
  async #subscribe(method, params) {
    const turn = this.#turn;
    const answer = await this.app.link.call(method, { session_id: this.id, ...params });
    if (answer.subscription === undefined) return answer;
    if (turn === this.#turn) this.#subscriptions.push(answer.subscription);
    else this.#unsubscribe(answer.subscription);
    return answer;
  }

  #unsubscribe(subscription) {
    this.app.link.call("events.unsubscribe", { subscription }).catch(() => {}); // it went with its connection
  }

  /** Look at the picture once there is one: it begins for us if we have started the session, else it does not for us. */
  notice() {
    const { session, watch } = this;
    if (session?.phase === "ended" && watch.isOpen) watch.close();
    if (session?.phase !== "running" || !session.location || watch.state !== "idle" || this.wasAsked) return;
    this.wasAsked = true;
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) watch.open(this.startedHere);
  }

  /** Take a notification that is ours. */
  take(method, params) {
    if (!this.#subscriptions.includes(params.subscription)) return;
    if (method === "session.log" && !params.end) this.#keep(params);
    else if (method === "event" && params.type !== "events.lost") this.happened.push(params);
    this.app.changed();
  }

  #keep(line) {
    this.#serial += 1;
    const at = this.lines.findLastIndex((other) => other.time <= line.time) + 1; // stages' lines come side by side
    this.lines.splice(at, 0, { ...line, serial: this.#serial, clock: time(line.time), isReport: line.line.startsWith('{"type":"report"') });
    if (this.lines.length > LINES * 1.2) this.lines.splice(0, this.lines.length - LINES);
  }

  async #followEvents() {
    this.happened = [];
    await this.#subscribe("events.subscribe", { since: 0 });
  }

  async #followLogs() {
    this.lines = [];
    if (!this.app.model.owns(this.session)) return;
    try {
      const { lines } = await this.#subscribe("session.logs", { follow: true, tail: 200 });
      for (const line of lines) this.#keep(line);
      this.logsRefused = "";
    } catch (error) {
      this.logsRefused = error.message;
    }
  }

  async #look() {
    if (this.session?.phase !== "running" || document.hidden || !this.app.link.isUp) return;
    try {
      const asked = { session_id: this.id };
      const [{ stages }] = await Promise.all([this.app.link.call("session.stats", asked), this.app.model.refresh(this.id)]);
      const now = performance.now();
      for (const [name, used] of Object.entries(stages)) this.#used(name, used, now);
      this.app.changed();
    } catch {
      // It has ended meanwhile, or the engine is slow: the notices say so.
    }
  }

  /** Cores in use, from the processor time between two looks. */
  #used(name, used, now) {
    const before = this.stages.get(name);
    const cores = before && used.cpu_seconds !== undefined ? Math.max(0, (used.cpu_seconds - before.used.cpu_seconds) / ((now - before.at) / 1000)) : undefined;
    const curve = cores === undefined ? (before?.curve ?? []) : [...before.curve, cores].slice(-REMEMBERED);
    this.stages.set(name, { used, at: now, cores: cores ?? before?.cores, curve });
  }
}
