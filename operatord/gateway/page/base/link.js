// SPDX-License-Identifier: MIT
// Keeps a connection to the daemon: connects, logs in, and connects again when the gateway, the daemon or the way there
// was away. The token is kept for this tab alone, and no longer than it is open.

import { Connection, Disconnected } from "./connection.js";

const TOKEN = "operatord.token";
const PAUSES = [0.3, 0.7, 1.5, 3, 5];

export class Link {
  /** connecting, login (a token is asked for), up, or lost. */
  state = "connecting";
  /** Why it is not up, in a sentence. */
  reason = "";
  /** When it is tried again, in milliseconds of the clock. */
  retryAt = 0;
  user = "";
  role = "viewer";
  #connection = null;
  #timer = 0;
  #failures = 0;

  /** `onUp(status)` is called with each new connection, `onNote` with notifications, `onChange` when `state` changes. */
  constructor(url, { onUp, onNote, onChange }) {
    this.url = url;
    this.#hooks = { onUp, onNote, onChange };
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.retry());
  }

  #hooks;

  get token() {
    return sessionStorage.getItem(TOKEN);
  }

  get isUp() {
    return this.state === "up";
  }

  call(method, params) {
    return this.#connection?.call(method, params) ?? Promise.reject(new Disconnected("not connected to operatord"));
  }

  /** Connect, and log in if there is a token. */
  async connect() {
    clearTimeout(this.#timer);
    const connection = new Connection(this.url, this.#hooks.onNote, (reason) => this.#ended(connection, reason));
    this.#connection = connection;
    await connection.opened;
    try {
      await this.#enter(connection);
    } catch (error) {
      if (!(error instanceof Disconnected)) this.#refused(connection, error);
    }
  }

  /** Log in with another token. */
  login(token) {
    sessionStorage.setItem(TOKEN, token);
    this.#leave("connecting", "");
    this.connect();
  }

  logout() {
    sessionStorage.removeItem(TOKEN);
    this.#leave("login", "");
  }

  /** Try again now, if it is lost. */
  retry() {
    if (this.state === "lost") this.connect();
  }

  async #enter(connection) {
    const who = this.token ? await connection.call("auth.login", { token: this.token }) : { user: "local" };
    const status = await connection.call("system.status");
    this.user = who.user;
    this.role = who.role ?? status.role ?? "viewer";
    this.#failures = 0;
    this.#set("up", "");
    this.#hooks.onUp(status);
  }

  #refused(connection, error) {
    if (error.type !== "unauthorized" && error.type !== "too_many_requests") {
      connection.close();
      return;
    }
    const said = this.token ? error.message : "";
    if (error.type === "unauthorized") sessionStorage.removeItem(TOKEN);
    this.#leave("login", said);
  }

  #leave(state, reason) {
    const connection = this.#connection;
    this.#connection = null;
    this.#set(state, reason);
    connection?.close();
  }

  #ended(connection, reason) {
    if (connection !== this.#connection) return; // one that was left
    this.#connection = null;
    const pause = PAUSES[Math.min(this.#failures, PAUSES.length - 1)] * 1000;
    this.#failures += 1;
    this.retryAt = Date.now() + pause;
    this.#timer = setTimeout(() => this.connect(), pause);
    this.#set("lost", reason);
  }

  #set(state, reason) {
    this.state = state;
    this.reason = reason;
    this.#hooks.onChange();
  }
}
