// SPDX-License-Identifier: MIT
// Makes the document look like a description of it, and touches only what has changed: so the keyboard's place, a
// selection and what somebody types stay while numbers move. Texts become text nodes, never HTML.

const MADE = Symbol("the description that a node was made from");
const LEFT = Symbol("what to do when a node goes");
const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "indeterminate"]);

/**
 * Describe an element. Props are attributes, but for `key` (who this is among its siblings), `on…` (a listener),
 * `style` (an object), `value` and `checked` (set when the description changes, not when somebody types), and `mount`
 * (called with the element once it is there; what it returns is called when it goes).
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, key: props?.key, children: flat(children) };
}

/** Make the children of an element as described. */
export function render(parent, ...children) {
  const wanted = flat(children);
  const keyed = dropStale(parent, wanted);
  let at = parent.firstChild;
  for (const want of wanted) {
    const node = reusable(want, at, keyed) ?? make(want, parent);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
    update(node, want);
  }
  while (at) {
    const next = at.nextSibling;
    drop(at);
    at = next;
  }
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (typeof child === "object" ? child : { text: String(child) }));
}

/** Remove the nodes whose keys are wanted no more; return the others by their keys. */
function dropStale(parent, wanted) {
  const keys = new Set(wanted.map((want) => want.key).filter((key) => key !== undefined));
  const keyed = new Map();
  for (const node of [...parent.childNodes]) {
    const key = node[MADE]?.key;
    if (key === undefined) continue;
    if (keys.has(key)) keyed.set(key, node);
    else drop(node);
  }
  return keyed;
}

function reusable(want, at, keyed) {
  const node = want.key === undefined ? at : keyed.get(want.key);
  const made = node?.[MADE];
  if (!made || made.key !== want.key || made.tag !== want.tag) return null;
  return node;
}

function make(want, parent) {
  if (want.tag === undefined) return Object.assign(document.createTextNode(""), { [MADE]: { text: "" } });
  const isSvg = want.tag === "svg" || (parent.namespaceURI === SVG && parent.localName !== "foreignObject");
  const node = isSvg ? document.createElementNS(SVG, want.tag) : document.createElement(want.tag);
  node[MADE] = { tag: want.tag, key: want.key, props: {} };
  return node;
}

function update(node, want) {
  const made = node[MADE];
  node[MADE] = want;
  if (want.tag === undefined) {
    if (made.text !== want.text) node.data = want.text;
    return;
  }
  const isNew = made.children === undefined;
  render(node, want.children);
  setProps(node, made.props, want.props);
  if (isNew && want.props.mount) mount(node, want.props.mount);
}

/** Call what waits for the element once all of this change is in the document. */
function mount(node, mounted) {
  queueMicrotask(() => {
    if (node.isConnected) node[LEFT] = mounted(node);
  });
}

function setProps(node, before, props) {
  for (const name of Object.keys(before)) if (!(name in props)) setProp(node, name, undefined, before[name]);
  for (const [name, value] of Object.entries(props)) {
    if (before[name] !== value) setProp(node, name, value, before[name]);
  }
}

function setProp(node, name, value, before) {
  if (name === "key" || name === "mount") return;
  if (name === "style") setStyle(node, value ?? {}, before ?? {});
  else if (name.startsWith("on")) node[name] = value ?? null;
  else if (PROPERTIES.has(name)) node[name] = value ?? "";
  else if (value === undefined || value === null || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}

function setStyle(node, style, before) {
  for (const name of Object.keys(before)) if (!(name in style)) node.style.removeProperty(name);
  for (const [name, value] of Object.entries(style)) {
    if (before[name] !== value) node.style.setProperty(name, value);
  }
}

function drop(node) {
  node.remove();
  leave(node);
}

function leave(node) {
  for (const child of node.childNodes) leave(child);
  if (typeof node[LEFT] === "function") node[LEFT]();
}
