// SPDX-License-Identifier: MIT
// Looks at a session's stream: a WebSocket of frames, of which the newest is drawn whenever the screen takes one.

import { read } from "./frames.js";
import { BYTES, Picture, canDraw } from "./picture.js";

export const SHOWN = 300; // frames whose areas the curve shows
const WINDOW = 2000; // ms over which frames a second are counted
const PAUSES = [500, 1000, 2000, 5000];
const REFUSED = [4400, 4401, 4403, 4404]; // close codes are those of HTTP, above 4000; others than these may go well later
const BROKEN = 1011; // the stream broke, or its stage knows nobody who only looks

export class Watch {
  /** idle, waiting (for the first frame), playing, over, failed. */
  state = "idle";
  reason = "";
  hello = null;
  /** The newest frame's header, and what it says of the mask. */
  header = null;
  mask = null;
  /** The mask's area in the last frames, as `{seq, area}`. */
  areas = [];
  received = 0;
  drawn = 0;
  /** Frames that passed this viewer by, on the way here. */
  dropped = 0;
  viewers = 0;
  isPaused = false;
  showsMask = true;
  opacity = 0.35;
  #socket = null;
  #picture = null;
  #frame = null;
  #arrivals = [];
  #asked = 0;
  #timer = 0;
  #failures = 0;

  /** `token` says what to log in with, `onChange` is called whenever something of the above is new. */
  constructor(url, token, onChange) {
    this.url = url;
    this.token = token;
    this.onChange = onChange;
  }

  get isOpen() {
    return this.state === "waiting" || this.state === "playing";
  }

  /** Whether no frames come because nobody reads them: one that only looks is shown the first and no more. */
  get isStill() {
    return !this.begins && this.isOpen && this.rate === 0;
  }

  /** Frames a second, as they came lately. */
  get rate() {
    const since = performance.now() - WINDOW;
    while (this.#arrivals.length && this.#arrivals[0] < since) this.#arrivals.shift();
    return (1000 * this.#arrivals.length) / WINDOW;
  }

  /** Draw on this canvas from now on; returns what ends that. */
  showOn(canvas) {
    this.#picture = new Picture(canvas);
    this.#redraw();
    return () => {
      this.#picture = null;
    };
  }

  /** Look; with `begins`, the frames begin for this viewer if nobody else reads them. */
  open(begins) {
    this.close();
    this.begins = begins;
    this.#set("waiting", "");
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify({ type: "open", ...(this.token() && { token: this.token() }), ...(!begins && { watch: true }) }));
    socket.onmessage = ({ data }) => socket === this.#socket && this.#take(data);
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#ended(code, reason);
    this.#socket = socket;
  }

  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    if (this.isOpen) this.#set("idle", "");
  }

  /** Keep the picture that is shown, and what is read off it; frames go on coming. */
  pause(isPaused) {
    this.isPaused = isPaused;
    this.onChange();
  }

  setMask(shows, opacity = this.opacity) {
    this.showsMask = shows;
    this.opacity = opacity;
    this.#redraw();
    this.onChange();
  }

  #take(data) {
    if (typeof data === "string") return this.#note(JSON.parse(data));
    const message = read(data);
    const { type } = message.header;
    if (type === "hello") this.#greet(message.header);
    else if (type === "frame") this.#arrived(message);
    else if (type === "end") this.#finish(message.header);
  }

  #note(note) {
    if (note.type === "viewer") ({ dropped: this.dropped = 0, viewers: this.viewers = 0 } = note);
    else if (note.type === "error") this.reason = note.message ?? note.error?.message ?? "";
    this.onChange();
  }

  #greet(hello) {
    this.hello = { ...hello, format: hello.format ?? "gray8" };
    if (!canDraw(this.hello.format)) this.#fail(`the stream's pictures are ${this.hello.format}, and this page draws ${Object.keys(BYTES).join(", ")} only`);
    this.onChange();
  }

  #arrived({ header, parts }) {
    this.#failures = 0;
    this.received += 1;
    this.#arrivals.push(performance.now());
    if (!this.isPaused) this.#show(header, parts);
    if (this.state !== "playing") this.#set("playing", "");
    this.onChange();
  }

  #show(header, parts) {
    this.header = header;
    this.mask = parts.mask ?? null;
    if (Number.isFinite(this.mask?.area)) this.#remember(header.seq, this.mask.area);
    this.#frame = parts;
    this.#redraw();
  }

  /** Keep the areas of the last frames; of those that passed by, there are gaps. */
  #remember(seq, area) {
    this.areas = [...this.areas.filter((each) => each.seq > seq - SHOWN && each.seq < seq), { seq, area }];
  }

  #finish(end) {
    this.#socket?.close();
    this.#socket = null;
    this.#set("over", `The stream has been delivered to its end: ${end.frames} frames came here.`);
  }

  #fail(reason) {
    this.#socket?.close();
    this.#socket = null;
    this.#set("failed", reason);
  }

  /** Ended without the end of a stream: the way here is gone, or there is nothing to see. */
  #ended(code, reason) {
    this.#socket = null;
    const why = reason || this.reason;
    if (REFUSED.includes(code) || (code === BROKEN && !this.begins)) return this.#fail(why);
    const pause = PAUSES[Math.min(this.#failures, PAUSES.length - 1)];
    this.#failures += 1;
    this.#timer = setTimeout(() => this.open(this.begins), pause);
    this.#set("waiting", why || "the picture's connection is lost");
  }

  #redraw() {
    this.#asked ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#asked = 0;
    if (!this.#picture || !this.#frame || !this.hello) return;
    const { width, height, format } = this.hello;
    const { image, mask } = this.#frame;
    if (image?.data.length !== width * height * BYTES[format]) return this.#fail("a frame's picture is not as large as the stream says");
    this.#picture.draw(width, height, format, image.data, this.showsMask ? mask?.data : undefined, this.opacity);
    this.drawn += 1;
  }

  #set(state, reason) {
    this.state = state;
    this.reason = reason;
    this.onChange();
  }
}
