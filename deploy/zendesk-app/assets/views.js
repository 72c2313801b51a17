// The states of the app as parts of the page: a card to decide on, a decision, a blind ticket, and why there is nothing to show.
// Knows no requests; what a click does is handed in.

import { alertBox, button, confidence, el, field, form, labelMenu, skeleton, tag } from "./parts.js";
import { say, sayField, sayPercent } from "./strings.js";

const REASON_CHARS = 500;
const SUMMARY_CHARS = 4000;
const TROUBLE = {
  signature: "refused", refused: "wrong", missing: "wrong", conflict: "conflict", busy: "busy", down: "down", setup: "setup", alone: "alone",
};
const TONES = { busy: "warn", conflict: "warn", down: "bad", signature: "bad", setup: "warn", alone: "" };

function heading(text) {
  return el("h2", { tabindex: "-1" }, text);
}

export function showLoading(key) {
  return [skeleton(say(key))];
}

// What went wrong, in one sentence, and a way on.
export function showTrouble(error, onRetry) {
  const name = TROUBLE[error.kind] || "wrong";
  const hint = name === "conflict" || name === "wrong" ? "" : say(`${name}_text`);
  const detail = error.message && name !== "busy" ? error.message : "";
  return alertBox(say(`${name}_title`), {
    tone: error.kind in TONES ? TONES[error.kind] : "bad",
    text: hint,
    role: "alert",
    children: [
      detail ? el("p", { class: "small" }, detail) : null,
      onRetry ? el("div", { class: "row" }, button(say("retry"), onRetry)) : null,
    ],
  });
}

export function showCard(view, actions, open) {
  const { card } = view;
  return el("section", { "aria-labelledby": "card-title" },
    el("div", { class: "stack" },
      el("h2", { id: "card-title", class: "small muted", tabindex: "-1" }, say("suggested")),
      el("p", { class: "label" }, card.label),
      confidence(card.confidence)),
    showFields(card.fields),
    card.reason ? el("div", {}, el("h3", { class: "small muted" }, say("why")), el("p", {}, card.reason)) : null,
    view.notice ? el("p", { class: "small muted" }, view.notice) : null,
    showChoices(view, actions, open),
    open ? null : showOthers(card.alternatives, actions));
}

function showFields(fields) {
  if (!fields.length) return null;
  const rows = fields.map(({ name, value }) => sayField(name, value)).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
  return el("dl", { class: "fields" }, rows);
}

function showChoices(view, actions, open) {
  if (open === "override") return labelForm(view, actions, { submit: say("save_label"), onCancel: actions.close });
  if (open === "handoff") return handoffForm(actions);
  return el("div", { class: "actions" },
    button(say("accept"), actions.accept, { kind: "primary", "data-name": "accept" }),
    button(say("override"), () => actions.open("override"), { "data-name": "override" }),
    button(say("handoff"), () => actions.open("handoff"), { "data-name": "handoff" }));
}

function labelForm(view, actions, { submit, onCancel = null }) {
  const menu = labelMenu(view.labels, view.card ? view.card.alternatives : []);
  const why = el("textarea", { rows: "2", maxlength: String(REASON_CHARS) });
  const missing = el("p", { id: "label-missing", class: "small", role: "alert" });
  const onSubmit = () => {
    if (menu.value) return actions.choose(menu.value, why.value.trim());
    missing.textContent = say("choose_first");
    menu.setAttribute("aria-invalid", "true");
    menu.setAttribute("aria-describedby", "label-missing");
    return menu.focus();
  };
  return form([field("label", say("label"), menu), missing, field("why", say("reason"), why, { isOptional: true })], { submit, onSubmit, onCancel });
}

function handoffForm(actions) {
  const why = el("textarea", { rows: "2", maxlength: String(REASON_CHARS) });
  return form([field("why", say("reason"), why, { isOptional: true })],
    { submit: say("handoff_confirm"), onSubmit: () => actions.handoff(why.value.trim()), onCancel: actions.close });
}

function showOthers(alternatives, actions) {
  if (!alternatives.length) return null;
  const line = (other) => el("li", {}, el("button", {
    type: "button", class: "other", "aria-label": `${say("choose_other", { label: other.label })} (${sayPercent(other.confidence)})`,
    on: { click: () => actions.choose(other.label, "") },
  }, el("span", {}, other.label), el("span", { class: "num" }, sayPercent(other.confidence))));
  return el("div", {}, el("h3", { class: "small muted" }, say("others")), el("ul", {}, alternatives.map(line)));
}

export function showBlind(view, actions, open) {
  const choice = open === "handoff" ? handoffForm(actions) : [
    labelForm(view, actions, { submit: say("blind_save") }),
    el("div", { class: "row" }, button(say("handoff"), () => actions.open("handoff"), { "data-name": "handoff" })),
  ];
  return el("section", {}, heading(say("blind_title")), el("p", {}, say("blind_text")), choice);
}

export function showDecided(view, actions, open) {
  const { decision, card } = view;
  const kinds = { accept: "accepted", override: "overridden", handoff: "handed_off", edit: "overridden" };
  const who = decision.is_own ? say("by_you") : say("by", { who: decision.name || say("an_agent") });
  const suggested = card && (decision.was_blind || decision.label !== card.label)
    ? say(decision.was_blind ? "was_suggested_unseen" : "was_suggested", { label: card.label, percent: sayPercent(card.confidence) }) : "";
  return el("section", { "aria-labelledby": "card-title" },
    el("div", { class: "alert good" },
      el("h2", { id: "card-title", class: "title", tabindex: "-1" }, `${say(kinds[decision.kind])} ${who}`),
      decision.label ? el("p", { class: "label" }, decision.label) : null,
      suggested ? el("p", { class: "small muted" }, suggested) : null),
    open === "override" ? labelForm(view, actions, { submit: say("save_label"), onCancel: actions.close }) : el("div", { class: "row" },
      decision.can_undo ? button(say("undo"), actions.undo, { "data-name": "undo" }) : null,
      view.inference_id ? button(say("change"), () => actions.open("override"), { kind: decision.can_undo ? "plain" : "", "data-name": "override" }) : null));
}

export function showNothing(view, onRetry) {
  const name = view.state === "paused" ? "paused" : "none";
  const text = view.notice || say(`${name}_text`);
  return el("section", {}, alertBox(say(`${name}_title`), {
    tone: name === "paused" ? "warn" : "", text, children: [el("div", { class: "row" }, button(say("retry"), onRetry))],
  }));
}

export function showMacro(macro, onApply) {
  return el("section", { class: "tight" }, heading(say("macro")), el("p", {}, macro.title),
    el("div", { class: "row" }, button(say("apply_macro"), onApply, { "data-name": "macro" })));
}

export function showSummary(summary, actions, open) {
  if (!summary) {
    return el("section", { class: "tight" }, heading(say("summary")), el("div", { class: "row" }, button(say("summarize"), actions.summarize, { "data-name": "summarize" })));
  }
  const mark = summary.decision === "edit" ? tag(say("edited")) : summary.is_excerpt ? tag(say("excerpt")) : null;
  const head = el("div", { class: "row between" }, heading(say("summary")), mark);
  if (!summary.inference_id) return el("section", { class: "tight" }, head, el("p", {}, summary.notice || summary.text));
  if (open === "summary") return el("section", { class: "tight" }, head, summaryForm(summary, actions));
  return el("section", { class: "tight" }, head, el("p", { class: "text" }, summary.text), el("div", { class: "row" },
    button(say("edit"), () => actions.open("summary"), { "data-name": "summary" }),
    summary.decision ? null : button(say("summary_right"), actions.acceptSummary, { kind: "plain" })));
}

function summaryForm(summary, actions) {
  const text = el("textarea", { rows: "6", maxlength: String(SUMMARY_CHARS) });
  text.value = summary.text;
  const missing = el("p", { class: "small", role: "alert" });
  const onSubmit = () => {
    if (text.value.trim()) return actions.editSummary(text.value.trim());
    missing.textContent = say("empty_summary");
    return text.focus();
  };
  return form([field("summary-text", say("summary"), text), missing], { submit: say("save_summary"), onSubmit, onCancel: actions.close });
}
