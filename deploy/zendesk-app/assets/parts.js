// Small pieces of the page. Everything that comes from outside is set as text, never as markup.

import { say, sayConfidence, sayPercent } from "./strings.js";

const UNSURE = 0.5;

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") Object.entries(value).forEach(([event, handle]) => node.addEventListener(event, handle));
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function button(text, handle, { kind = "", ...props } = {}) {
  return el("button", { type: "button", class: `button ${kind}`.trim(), on: { click: handle }, ...props }, text);
}

export function tag(text, tone = "") {
  return el("span", { class: `tag ${tone}`.trim() }, text);
}

export function alertBox(title, { tone = "", text = "", role = null, children = [] } = {}) {
  const lines = [el("p", { class: "title" }, title), text && el("p", {}, text)];
  return el("div", { class: `alert ${tone}`.trim(), role }, lines, children);
}

export function skeleton(text) {
  const lines = [1, 2, 3].map(() => el("span"));
  return el("section", {}, el("div", { class: "skeleton", "aria-hidden": "true" }, lines), el("p", { class: "muted" }, text));
}

// How sure the model is, in words and as a number; the bar repeats the number.
export function confidence(probability) {
  const bar = el("span");
  bar.style.width = `${Math.round(100 * probability)}%`;
  const isUnsure = probability < UNSURE;
  return el("div", { class: "stack" },
    el("p", { class: "row" }, tag(sayConfidence(probability), isUnsure ? "warn" : "good"),
      el("span", { class: "num muted" }, sayPercent(probability))),
    el("div", { class: isUnsure ? "meter unsure" : "meter", "aria-hidden": "true" }, bar));
}

export function field(id, label, input, { isOptional = false } = {}) {
  input.id = id;
  return el("div", { class: "field" },
    el("label", { for: id }, label, isOptional ? el("span", { class: "hint" }, ` ${say("optional")}`) : null), input);
}

// A menu of labels, the likely ones first.
export function labelMenu(labels, likely = []) {
  const option = (label, text) => el("option", { value: label.name, title: label.description || null }, text || label.name);
  const likelyOnes = likely.map((one) => option({ name: one.label }, `${one.label} (${sayPercent(one.confidence)})`));
  const all = labels.map((label) => option(label));
  return el("select", { required: true },
    el("option", { value: "" }, say("choose_label")),
    likelyOnes.length ? el("optgroup", { label: say("likely_labels") }, likelyOnes) : null,
    likelyOnes.length ? el("optgroup", { label: say("all_labels") }, all) : all);
}

// A form that opens in place of its buttons. Escape closes it.
export function form(fields, { submit, kind = "primary", onSubmit, onCancel = null }) {
  const leave = onCancel ? button(say("cancel"), onCancel, { kind: "plain" }) : null;
  const node = el("form", { class: "stack", novalidate: true },
    fields, el("div", { class: "row" }, el("button", { type: "submit", class: `button ${kind}` }, submit), leave));
  node.addEventListener("submit", (event) => { event.preventDefault(); onSubmit(); });
  if (onCancel) {
    node.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.stopPropagation(); onCancel(); }
    });
  }
  return node;
}
