// SPDX-License-Identifier: MIT
// The page of operatord: a connection, what is known by it, and the view that the address names.

import { h, render } from "./base/dom.js";
import { number } from "./base/format.js";
import { Link } from "./base/link.js";
import { Model } from "./base/model.js";
import { Sight } from "./base/sight.js";
import { button } from "./base/widgets.js";
import { dialog, extendBody, stopBody } from "./views/dialogs.js";
import { history } from "./views/history.js";
import { login } from "./views/login.js";
import { overview } from "./views/overview.js";
import { probes } from "./views/probes.js";
import { session } from "./views/session.js";
import { start, StartForm } from "./views/start.js";

const BETWEEN = 100; // ms between two changes of the document, so that many frames cost little more than one
const SAID = 6000; // ms for which a word stays

class App {
  route = { name: "overview" };
  sight = null;
  form = null;
  dialog = null;
  said = "";
  /** Ids of the sessions that were started here. */
  started = new Set();
  #drawing = 0;
  #quiet = 0;
  #asked = 0;

  constructor() {
    const socket = new URL("api/v1/socket", document.baseURI);
    socket.protocol = socket.protocol.replace("http", "ws");
    this.link = new Link(socket, { onUp: (status) => this.#up(status), onNote: (method, params) => this.#note(method, params), onChange: () => this.#linkChanged() });
    this.model = new Model(this.link, () => this.changed(), (event) => this.#happened(event));
    addEventListener("hashchange", () => this.#go(true));
    document.querySelector(".skip").onclick = (event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    };
    this.#go(false);
    this.link.connect();
  }

  /** Something is new: the document follows soon. */
  changed = () => {
    this.#drawing ||= setTimeout(() => this.#draw(), BETWEEN);
  };

  /** Do something that the document shows at once. */
  change(deed) {
    deed();
    clearTimeout(this.#drawing);
    this.#draw();
  }

  streamUrl(id) {
    const url = new URL(`sessions/${id}/stream`, document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    return url;
  }

  /** Say something where everybody sees it, and to who hears the page. */
  say(words) {
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.change(() => (this.said = "")), SAID);
    this.change(() => (this.said = words));
  }

  /** Ask for something; what the daemon refuses it with is said. */
  async attempt(deed) {
    try {
      return await deed();
    } catch (error) {
      this.say(error.message);
    }
  }

  copy = async (text, label) => {
    try {
      await navigator.clipboard.writeText(text);
      this.say(`Copied ${label}`);
    } catch {
      this.say("The browser lets no page copy here: select the text instead");
    }
  };

  savePicture(id) {
    document.querySelector(".screen canvas").toBlob((blob) => {
      const anchor = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${id}.png` });
      anchor.click();
      URL.revokeObjectURL(anchor.href);
    });
  }

  askStop(shown) {
    const { session_id } = shown;
    this.#ask({
      title: shown.phase === "queued" ? `Take ${session_id} out of the queue?` : `Stop session ${session_id}?`,
      body: stopBody(shown),
      verb: shown.phase === "queued" ? "Leave the queue" : "Stop it",
      danger: true,
      act: () => {
        this.closeDialog();
        this.attempt(() => this.link.call("session.stop", { session_id }));
      },
    });
  }

  askExtend({ session_id }) {
    this.#ask({
      title: `Extend session ${session_id}`,
      body: extendBody(),
      verb: "Extend",
      act: async ({ ttl }) => {
        try {
          await this.link.call("session.extend", { session_id, ttl: number(ttl.value) });
          await this.model.refresh(session_id);
          this.closeDialog();
        } catch (error) {
          this.change(() => (this.dialog = { ...this.dialog, error: error.message }));
        }
      },
    });
  }

  #ask(question) {
    this.#asked += 1;
    this.change(() => (this.dialog = { ...question, number: this.#asked }));
  }

  /** Close the dialog; the browser says late that it has closed one, when there may be another. */
  closeDialog(number = this.#asked) {
    if (this.dialog?.number === number) this.change(() => (this.dialog = null));
  }

  async #up(status) {
    await this.attempt(() => this.model.begin(status));
    await this.#gather();
  }

  #note(method, params) {
    this.sight?.take(method, params);
    if (method === "event" && params.subscription === this.model.subscription) this.model.take(params);
  }

  #happened(event) {
    if (event.session_id !== this.sight?.id) return;
    const words = { "session.running": "The session runs", "session.ended": `The session has ended: ${event.reason ?? event.outcome}` }[event.type];
    if (words) this.say(words);
  }

  #linkChanged() {
    if (this.link.state === "login") this.sight?.close();
    this.change(() => {});
  }

  /** Go where the address says. */
  #go(moves) {
    const [, name, id] = location.hash.match(/^#\/(\w*)(?:\/([0-9A-F]{16}))?$/) ?? ["", ""];
    this.#leave();
    this.dialog = null;
    this.route = { name: id ? "session" : name || "overview", id };
    if (this.route.name === "session") this.sight = new Sight(id, this);
    if (this.route.name === "start") this.form = new StartForm(this);
    this.change(() => {});
    this.#gather();
    if (moves) document.querySelector("main h1")?.focus();
    scrollTo(0, 0);
  }

  #leave() {
    this.sight?.close();
    this.form?.close();
    this.sight = this.form = null;
  }

  /** Gather what only this view shows. */
  async #gather() {
    if (!this.link.isUp) return;
    this.form?.ask(0);
    if (this.sight) await this.attempt(() => this.sight.open());
    this.changed();
  }

  #draw() {
    this.#drawing = 0;
    this.sight?.notice();
    document.title = this.#title();
    render(document.getElementById("bar"), this.#bar());
    render(document.getElementById("main"), this.#main());
    render(document.getElementById("over"), this.dialog && dialog(this, this.dialog));
    render(document.getElementById("said"), this.said);
  }

  #title() {
    const { name, id } = this.route;
    const what = { overview: "Overview", history: "History", probes: "Probes", start: "Start", session: `Session ${id?.slice(0, 5)}` }[name] ?? "";
    return `${what} – operatord`;
  }

  #bar() {
    const { link, model } = this;
    const here = (name) => (this.route.name === name ? "page" : null);
    const isIn = model.status && link.state !== "login";
    return [
      h("a", { class: "brand", href: "#/", key: "brand" }, h("img", { src: "static/icon.svg", alt: "", width: 22, height: 22 }), "operatord"),
      isIn && h("nav", { "aria-label": "Views", key: "nav" }, h("a", { href: "#/", "aria-current": here("overview") }, "Overview"), h("a", { href: "#/history", "aria-current": here("history") }, "History"), h("a", { href: "#/probes", "aria-current": here("probes") }, "Probes")),
      isIn && h("p", { class: "who", key: "who" }, h("span", null, link.user), link.role !== link.user && h("span", { class: "muted" }, ` ${link.role}`)),
      isIn && link.token && button("Log out", () => link.logout(), { class: "quiet", key: "out" }),
      isIn && model.mayStart && h("a", { class: "button primary", href: "#/start", key: "start", "aria-current": here("start") }, "Start"),
    ];
  }

  #main() {
    const { link, model } = this;
    if (link.state === "login") return login(link);
    const lost = link.state === "lost" && this.#lost();
    if (!model.status) return [lost || h("p", { class: "lead", key: "connecting" }, "Connecting to operatord.")];
    return [lost, this.#view()];
  }

  #lost() {
    const { reason } = this.link;
    return h("div", { class: "lost", role: "alert", key: "lost" }, h("p", null, h("b", null, "Not connected to operatord. "), reason ? `${reason}. ` : "", "It is tried again by itself; what you see is what was known last."), button("Try now", () => this.link.retry()));
  }

  #view() {
    switch (this.route.name) {
      case "session":
        return this.sight && session(this, this.sight);
      case "history":
        return history(this);
      case "probes":
        return probes(this);
      case "start":
        return this.form && start(this, this.form);
      default:
        return overview(this);
    }
  }
}

sessionStorage.removeItem("operatord.loaded"); // what index.html counts
new App();
