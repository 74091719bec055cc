// SPDX-License-Identifier: MIT
// What is known of the daemon: its sessions by events, the machine by asking once a second, the rest when it may have
// changed. Views read it; `onChange` says that they have something new to show.

const EVERY = 1000; // ms between two looks at the machine
const GATHER = 120; // ms in which events gather before sessions are asked for
const REMEMBERED = 120; // looks at the machine that the small curves show
const MOST_ASKED = 24; // sessions that are asked for one by one; of more, all are listed again
const LIVING = ["queued", "starting", "running", "stopping"];
const PAGES = 5; // of 200 sessions in each phase
const PAGE = 50; // ended sessions that come at a time

export class Model {
  status = null;
  sessions = new Map();
  pipelines = [];
  probes = [];
  /** The machine in the last two minutes: shares from 0 to 1. */
  curves = { cpus: [], memory: [] };
  /** Where to go on listing ended sessions; undefined when all are there. */
  next = undefined;
  isListed = false;
  /** The number of the subscription to all events. */
  subscription = 0;
  #offset = 0;
  #dirty = new Set();
  #gathering = 0;
  #asking = false;
  #looks = 0;

  constructor(link, onChange, onEvent) {
    this.link = link;
    this.onChange = onChange;
    this.onEvent = onEvent;
    setInterval(() => this.#look(), EVERY);
  }

  /** The daemon's time, in milliseconds. */
  now() {
    return Date.now() + this.#offset;
  }

  /** Seconds since a time of the daemon's. */
  since(text) {
    return (this.now() - Date.parse(text)) / 1000;
  }

  /** The living sessions, newest first, those in the queue in its order. */
  living() {
    const alive = [...this.sessions.values()].filter((session) => session.phase !== "ended");
    return alive.sort((a, b) => (a.created < b.created ? 1 : -1));
  }

  queue() {
    const waiting = this.living().filter((session) => session.phase === "queued");
    return waiting.sort((a, b) => (a.position ?? 1e9) - (b.position ?? 1e9));
  }

  ended() {
    const over = [...this.sessions.values()].filter((session) => session.phase === "ended");
    return over.sort((a, b) => ((a.ended ?? "") < (b.ended ?? "") ? 1 : -1));
  }

  /** Whether who looks may start sessions. */
  get mayStart() {
    return this.link.role !== "viewer";
  }

  /** Whether who looks may stop a session and read its logs. */
  owns(session) {
    return this.link.role === "operator" || (this.link.role === "user" && session.owner === this.link.user);
  }

  /** Begin anew with a connection: nothing that was known need hold any more. */
  async begin(status) {
    this.#setStatus(status);
    const asked = Date.now();
    const [{ time }, { subscription }] = await Promise.all([this.link.call("system.ping"), this.link.call("events.subscribe")]);
    this.#offset = Date.parse(time) - (asked + Date.now()) / 2;
    this.subscription = subscription;
    await Promise.all([this.list(), this.listMore(), this.refreshPipelines(), this.refreshProbes()]);
  }

  /** List the living sessions again. */
  async list() {
    const found = (await Promise.all(LIVING.map((phase) => this.#listed(phase)))).flat();
    for (const [id, session] of this.sessions) if (session.phase !== "ended") this.sessions.delete(id);
    for (const session of found) this.#put(session);
    this.isListed = true;
    this.onChange();
  }

  async #listed(phase) {
    const found = [];
    let cursor;
    for (let page = 0; page < PAGES; page += 1) {
      const answer = await this.link.call("session.list", { phase, limit: 200, ...(cursor && { cursor }) });
      found.push(...answer.sessions);
      if (!(cursor = answer.next)) break;
    }
    return found;
  }

  /** List the newest ended sessions, or those before. */
  async listMore(cursor) {
    const answer = await this.link.call("session.list", { phase: "ended", limit: PAGE, ...(cursor && { cursor }) });
    for (const session of answer.sessions) this.#put(session);
    this.next = answer.next;
    this.onChange();
  }

  async refreshPipelines() {
    this.pipelines = (await this.link.call("pipeline.list")).pipelines;
    this.onChange();
  }

  async refreshProbes() {
    this.probes = (await this.link.call("probe.list", { limit: 200 })).probes;
    this.onChange();
  }

  /** Ask for one session, with all that there is to know of it. */
  async refresh(id) {
    try {
      this.#put(await this.link.call("session.get", { session_id: id }));
    } catch (error) {
      if (error.type !== "not_found") throw error;
      this.sessions.delete(id);
    }
    this.onChange();
  }

  /** Take a notification of the subscription to all events. */
  take(event) {
    if (event.type === "events.lost") this.#again();
    else if (event.session_id) this.#touched(event);
    else if (event.type.startsWith("probe.")) this.refreshProbes().catch(ignore);
    this.onEvent(event);
  }

  #touched(event) {
    const session = this.sessions.get(event.session_id);
    const [kind, phase] = event.type.split(".");
    if (session && kind === "session" && LIVING.includes(phase)) this.#put({ ...session, phase });
    this.#dirty.add(event.session_id);
    this.#gathering ||= setTimeout(() => this.#gathered(), GATHER);
    this.onChange();
  }

  #gathered() {
    const ids = [...this.#dirty];
    this.#dirty.clear();
    this.#gathering = 0;
    if (ids.length > MOST_ASKED) this.#again();
    else for (const id of ids) this.refresh(id).catch(ignore);
  }

  #again() {
    Promise.all([this.list(), this.listMore()]).catch(ignore);
  }

  async #look() {
    if (!this.link.isUp || document.hidden || this.#asking) return;
    this.#asking = true;
    try {
      this.#setStatus(await this.link.call("system.status"));
      await this.#lookAround();
    } catch {
      // The link says it, when there is something to say.
    } finally {
      this.#asking = false;
    }
  }

  /** What no event tells: places in the queue, when a session is to end, what has become of a probe. */
  async #lookAround() {
    this.#looks += 1;
    const { length } = this.status.queue;
    if (length && this.#looks % (length > 100 ? 10 : 2) === 0) {
      for (const session of await this.#listed("queued")) this.#put(session);
    }
    if (this.#looks % 30 === 0) await Promise.all([this.list(), this.refreshProbes(), this.refreshPipelines()]);
  }

  #setStatus(status) {
    const wasGeneration = this.status?.generation;
    this.status = status;
    const { measured, host } = status;
    if (host.cpus) this.#remember("cpus", measured.cpu_percent / 100);
    if (host.memory) this.#remember("memory", 1 - measured.memory_available / host.memory);
    if (wasGeneration !== undefined && wasGeneration !== status.generation) this.refreshPipelines().catch(ignore);
    this.onChange();
  }

  #remember(name, value) {
    if (!Number.isFinite(value)) return;
    this.curves[name] = [...this.curves[name], value].slice(-REMEMBERED);
  }

  /** Phases go forward only, so what was asked for before an event came must not take one back. */
  #put(session) {
    const known = this.sessions.get(session.session_id);
    const order = [...LIVING, "ended"];
    if (known && order.indexOf(session.phase) < order.indexOf(known.phase)) return;
    const kept = known?.post_mortem && !session.post_mortem ? { post_mortem: known.post_mortem } : {};
    this.sessions.set(session.session_id, { ...session, ...kept });
  }
}

const ignore = () => {}; // the connection went; the next one begins anew
