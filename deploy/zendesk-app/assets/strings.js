// What the app says, per language. Every language has the same keys; a test checks it.

const EN = {
  loading: "Loading the suggestion",
  waiting: "Understudy is reading the ticket…",
  suggested: "Suggested label",
  confidence: ["Very likely", "Likely", "Plausible", "Unsure", "A guess"],
  why: "Why",
  others: "Or is it",
  choose_other: "Choose {label} instead",
  accept: "Accept",
  override: "Override",
  handoff: "Hand off",
  cancel: "Cancel",
  optional: "(optional)",
  label: "Label",
  choose_label: "Choose a label",
  likely_labels: "Likely",
  all_labels: "All labels",
  reason: "Why",
  save_label: "Save label",
  handoff_confirm: "Hand off to a person",
  choose_first: "Choose a label first.",
  macro: "Macro",
  apply_macro: "Apply macro",
  macro_applied: "Macro applied. Look it over, then submit the ticket.",
  macro_failed: "The macro could not be applied here. Apply it from the macro menu.",
  summary: "Summary",
  excerpt: "Excerpt",
  edited: "Edited",
  summarize: "Summarise",
  edit: "Edit",
  summary_right: "Looks right",
  save_summary: "Save summary",
  summary_saved: "Summary saved.",
  summary_accepted: "Summary accepted.",
  empty_summary: "Write a sentence first.",
  accepted: "Accepted",
  overridden: "Label chosen",
  handed_off: "Handed off to a person",
  by_you: "by you",
  by: "by {who}",
  an_agent: "another support agent",
  was_suggested: "Suggested was {label} ({percent})",
  was_suggested_unseen: "Suggested, unseen by you: {label} ({percent})",
  undo: "Undo",
  undone: "Taken back. The ticket is open for a decision again.",
  change: "Change",
  saved: "Saved.",
  fields_set: "The ticket's fields are filled in; submit the ticket to keep them.",
  fields_not_set: "The ticket's fields could not be filled in: set them yourself.",
  blind_title: "Your choice first",
  blind_text: "A few tickets are shown without their suggestion, so that your choice tells how good suggestions are. It is shown afterwards.",
  blind_save: "Choose and reveal",
  paused_title: "Suggestions are paused",
  paused_text: "Whoever runs Understudy has paused them. Tickets are still taken in.",
  none_title: "No suggestion",
  none_text: "Understudy has not suggested anything for this ticket yet. It looks at open tickets when they come in or change.",
  busy_title: "The model is busy",
  busy_text: "Too much is asked at once. Try again in a moment.",
  down_title: "Understudy cannot be reached",
  down_text: "The bot does not answer. Your ticket is not affected.",
  refused_title: "The request was refused",
  refused_text: "An administrator should compare the app's settings with the bot's.",
  conflict_title: "This has changed meanwhile",
  wrong_title: "That did not work",
  setup_title: "The app is not set up",
  setup_text: "An administrator has to enter the address of the bot in the app's settings.",
  alone_title: "Open this app in Zendesk",
  alone_text: "It shows suggestions beside a ticket.",
  retry: "Try again",
  field_names: { queue: "Queue", priority: "Priority", escalate: "Escalate" },
  field_values: { yes: "Yes", no: "No", low: "Low", normal: "Normal", high: "High", urgent: "Urgent" },
};

const DE = {
  loading: "Der Vorschlag wird geladen",
  waiting: "Understudy liest das Ticket …",
  suggested: "Vorgeschlagene Kategorie",
  confidence: ["Sehr wahrscheinlich", "Wahrscheinlich", "Plausibel", "Unsicher", "Geraten"],
  why: "Warum",
  others: "Oder ist es",
  choose_other: "Stattdessen {label} wählen",
  accept: "Annehmen",
  override: "Ändern",
  handoff: "Übergeben",
  cancel: "Abbrechen",
  optional: "(freiwillig)",
  label: "Kategorie",
  choose_label: "Kategorie wählen",
  likely_labels: "Wahrscheinlich",
  all_labels: "Alle Kategorien",
  reason: "Warum",
  save_label: "Speichern",
  handoff_confirm: "An einen Menschen übergeben",
  choose_first: "Wählen Sie zuerst eine Kategorie.",
  macro: "Makro",
  apply_macro: "Makro anwenden",
  macro_applied: "Makro angewendet. Prüfen Sie es und senden Sie das Ticket ab.",
  macro_failed: "Das Makro ließ sich hier nicht anwenden. Wenden Sie es über das Makromenü an.",
  summary: "Zusammenfassung",
  excerpt: "Auszug",
  edited: "Bearbeitet",
  summarize: "Zusammenfassen",
  edit: "Bearbeiten",
  summary_right: "Stimmt so",
  save_summary: "Speichern",
  summary_saved: "Zusammenfassung gespeichert.",
  summary_accepted: "Zusammenfassung angenommen.",
  empty_summary: "Schreiben Sie zuerst einen Satz.",
  accepted: "Angenommen",
  overridden: "Kategorie gewählt",
  handed_off: "An einen Menschen übergeben",
  by_you: "von Ihnen",
  by: "von {who}",
  an_agent: "jemand anderem aus dem Team",
  was_suggested: "Vorgeschlagen war {label} ({percent})",
  was_suggested_unseen: "Vorgeschlagen, von Ihnen ungesehen: {label} ({percent})",
  undo: "Zurücknehmen",
  undone: "Zurückgenommen. Über das Ticket kann neu entschieden werden.",
  change: "Ändern",
  saved: "Gespeichert.",
  fields_set: "Die Felder des Tickets sind ausgefüllt; senden Sie das Ticket ab, um sie zu behalten.",
  fields_not_set: "Die Felder des Tickets ließen sich nicht ausfüllen: Setzen Sie sie selbst.",
  blind_title: "Zuerst Ihre Wahl",
  blind_text: "Einige Tickets werden ohne Vorschlag gezeigt, damit Ihre Wahl sagt, wie gut die Vorschläge sind. Danach wird er gezeigt.",
  blind_save: "Wählen und aufdecken",
  paused_title: "Vorschläge sind angehalten",
  paused_text: "Wer Understudy betreibt, hat sie angehalten. Tickets werden weiter aufgenommen.",
  none_title: "Kein Vorschlag",
  none_text: "Understudy hat zu diesem Ticket noch nichts vorgeschlagen. Es sieht offene Tickets an, wenn sie eingehen oder sich ändern.",
  busy_title: "Das Modell ist ausgelastet",
  busy_text: "Es wird zu viel auf einmal gefragt. Versuchen Sie es gleich noch einmal.",
  down_title: "Understudy ist nicht erreichbar",
  down_text: "Der Bot antwortet nicht. Ihr Ticket ist davon nicht betroffen.",
  refused_title: "Die Anfrage wurde abgelehnt",
  refused_text: "Die Einstellungen der App und des Bots sollten verglichen werden.",
  conflict_title: "Das hat sich inzwischen geändert",
  wrong_title: "Das hat nicht geklappt",
  setup_title: "Die App ist nicht eingerichtet",
  setup_text: "In den Einstellungen der App fehlt die Adresse des Bots.",
  alone_title: "Öffnen Sie diese App in Zendesk",
  alone_text: "Sie zeigt Vorschläge neben einem Ticket.",
  retry: "Noch einmal versuchen",
  field_names: { queue: "Warteschlange", priority: "Priorität", escalate: "Eskalieren" },
  field_values: { yes: "Ja", no: "Nein", low: "Niedrig", normal: "Normal", high: "Hoch", urgent: "Dringend" },
};

export const LANGUAGES = { en: EN, de: DE };
const BOUNDS = [0.9, 0.7, 0.5, 0.3];

let chosen = EN;

export function chooseLanguage(locale) {
  const language = String(locale || "en").slice(0, 2).toLowerCase();
  chosen = LANGUAGES[language] || EN;
  document.documentElement.lang = chosen === EN ? "en" : language;
}

export function say(key, values = {}) {
  return chosen[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function sayConfidence(probability) {
  const found = BOUNDS.findIndex((bound) => probability >= bound);
  return chosen.confidence[found < 0 ? BOUNDS.length : found];
}

// A share just below 1 never reads as certain, one just above 0 never as impossible.
export function sayPercent(probability) {
  if (probability > 0 && probability < 0.01) return "<1%";
  return `${probability >= 0.99 && probability < 1 ? 99 : Math.round(100 * probability)}%`;
}

export function sayField(name, value) {
  return [chosen.field_names[name] || name, chosen.field_values[value] || value];
}
