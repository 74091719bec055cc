// SPDX-License-Identifier: MIT
// A connection to the daemon through the gateway's WebSocket: each message is one line of the protocol (JSON-RPC 2.0).

/** What the daemon refused, in its own words. */
export class ProtocolError extends Error {
  constructor(error) {
    super(error.message);
    this.type = error.data?.type ?? "internal_error";
    this.data = error.data ?? {};
  }
}

/** The connection ended before the answer. */
export class Disconnected extends Error {}

export class Connection {
  #socket;
  #serial = 0;
  #pending = new Map();
  #farewell = "";

  /** `onNote(method, params)` is called with each notification, `onEnd(reason)` once, when the connection is over. */
  constructor(url, onNote, onEnd) {
    this.#socket = new WebSocket(url);
    this.#socket.onmessage = ({ data }) => this.#take(JSON.parse(data), onNote);
    this.#socket.onclose = ({ reason }) => this.#over(this.#farewell || reason, onEnd);
    this.opened = new Promise((resolve) => {
      this.#socket.onopen = resolve;
    });
  }

  /** Ask for something: the result, or a ProtocolError, or Disconnected. */
  call(method, params = {}) {
    if (this.#socket.readyState !== WebSocket.OPEN) return Promise.reject(new Disconnected("not connected to operatord"));
    const id = (this.#serial += 1);
    this.#socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }

  close() {
    this.#socket.close();
  }

  #take(message, onNote) {
    if (message.method) return onNote(message.method, message.params ?? {});
    const asked = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (!asked) this.#farewell = message.error?.message ?? ""; // said before it closes the connection
    else if (message.error) asked.reject(new ProtocolError(message.error));
    else asked.resolve(message.result);
  }

  #over(reason, onEnd) {
    for (const { reject } of this.#pending.values()) reject(new Disconnected(reason || "the connection is lost"));
    this.#pending.clear();
    onEnd(reason);
  }
}
