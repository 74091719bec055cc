// SPDX-License-Identifier: MIT
// The live picture, its controls, and what is read off it.

import { h } from "../base/dom.js";
import { count, fixed } from "../base/format.js";
import { button, curve, panel } from "../base/widgets.js";
import { SHOWN } from "../stream/watch.js";

export function picture(app, sight) {
  const { session, watch } = sight;
  const isShown = watch.hello && (watch.header || watch.isOpen);
  return panel(
    "picture",
    "Picture",
    { aside: watch.hello && `${watch.hello.width}×${watch.hello.height}` },
    h(
      "div",
      { class: "screen" },
      h("canvas", { width: 256, height: 256, role: "img", "aria-label": described(watch), mount: (canvas) => watch.showOn(canvas), class: watch.header ? "" : "blank" }),
      veil(sight, session),
    ),
    isShown && controls(app, watch, session),
    isShown && readings(watch),
    watch.areas.length > 1 && area(watch),
  );
}

function described({ hello, header, mask, showsMask, isPaused }) {
  if (!header) return "No picture yet";
  const over = mask && showsMask ? " with the mask over it" : "";
  return `The ${isPaused ? "paused" : "live"} picture of ${hello.width} by ${hello.height} pixels${over}`;
}

/** What stands where there is no picture. */
function veil(sight, { phase, location }) {
  const { watch } = sight;
  if (watch.state === "playing" && !watch.isStill) return null;
  return h("div", { class: watch.header ? "veil thin" : "veil" }, words(sight, phase, location), phase === "running" && location && location.format !== "openigtlink" && begin(watch));
}

function words({ watch, app, session }, phase, location) {
  if (phase !== "running") return h("p", null, { queued: "It waits in the queue.", starting: "It is being started.", stopping: "It is being stopped." }[phase] ?? "It has ended.");
  if (location?.format === "openigtlink") return h("p", null, "This stream is OpenIGTLink, and this page draws none: the location says how to open it in 3D Slicer.");
  if (!location) return h("p", null, `This stream is ${session.owner ?? "somebody else"}'s: only its owner and operators see it.`);
  if (watch.isOpen) return [h("p", null, watch.isStill ? "Nobody reads the stream just now, so no frames come." : "The first frame is waited for."), watch.reason && h("p", { class: "small" }, watch.reason)];
  if (watch.reason) return h("p", null, watch.reason);
  return h("p", null, "The picture is not being looked at.");
}

/** Frames begin with the first who reads them, so looking must not begin them unasked: another may want the first one. */
function begin(watch) {
  if (watch.state === "over" || (watch.isOpen && !watch.isStill)) return null;
  const words = watch.isStill ? "Begin the frames" : "Watch";
  return [button(words, () => watch.open(true), { class: "primary" }), h("p", { class: "small" }, "Frames begin with the first reader: who connects later begins with the next one.")];
}

function controls(app, watch, session) {
  const { showsMask, opacity, isPaused, mask } = watch;
  return h(
    "div",
    { class: "controls" },
    button(isPaused ? "Go on" : "Pause", () => app.change(() => watch.pause(!isPaused)), { "aria-pressed": String(isPaused) }),
    mask && h("label", { class: "switch" }, h("input", { type: "checkbox", role: "switch", checked: showsMask, onchange: ({ target }) => app.change(() => watch.setMask(target.checked)) }), h("span", null, "Mask")),
    mask && h("label", { class: "slider" }, h("span", null, "Opacity"), h("input", { type: "range", min: 0, max: 100, step: 5, value: Math.round(opacity * 100), disabled: !showsMask, "aria-valuetext": `${Math.round(opacity * 100)} percent`, oninput: ({ target }) => app.change(() => watch.setMask(true, target.value / 100)) })),
    button("Save PNG", () => app.savePicture(session.session_id), { class: "quiet" }),
  );
}

function readings(watch) {
  const { header, mask, dropped, viewers, hello } = watch;
  return h(
    "dl",
    { class: "readings", "data-seq": header?.seq, "data-area": mask?.area },
    reading("Frames a second", fixed(watch.rate, 1), hello.fps ? `of ${hello.fps}` : null),
    reading("Frame", header ? count(header.seq + 1) : "–", hello.count ? `of ${count(hello.count)}` : null),
    mask?.dice !== undefined && reading("Dice", fixed(mask.dice, 3), "1 is perfect"),
    mask?.area !== undefined && reading("Mask area", count(mask.area), "pixels"),
    reading("Dropped here", count(dropped), viewers > 1 ? `${viewers} viewers` : "this viewer"),
  );
}

const reading = (name, value, note) => h("div", { key: name, "data-reading": name }, h("dt", null, name), h("dd", null, h("b", null, value), note && h("span", null, ` ${note}`)));

function area({ areas: seen }) {
  const areas = seen.map(({ area }) => area);
  const places = seen.map(({ seq }) => seen.at(-1).seq - seq);
  const [least, most] = [Math.min(...areas), Math.max(...areas)];
  return h(
    "figure",
    { class: "area" },
    h("figcaption", null, "Mask area, the last ", count(places[0] + 1), " frames", h("span", { class: "muted" }, ` ${count(least)} to ${count(most)} pixels`)),
    curve(
      areas.map((value) => value - least),
      { top: most - least, most: SHOWN, places, label: `Mask area over the last ${places[0] + 1} frames: ${count(areas.at(-1))} pixels now, between ${count(least)} and ${count(most)}`, filled: false },
    ),
  );
}
