// The app: asks for the ticket's card, shows it, and turns clicks into decisions. Starts when Zendesk has loaded its SDK.

import { chooseLanguage, say } from "./strings.js";
import { showBlind, showCard, showDecided, showLoading, showMacro, showNothing, showSummary, showTrouble } from "./views.js";
import { el } from "./parts.js";
import { newKey, RequestError, Zendesk } from "./zendesk.js";

const MAX_POLLS = 10;
const MAX_BUSY_TRIES = 2;
const main = document.getElementById("main");
const status = document.getElementById("status");

class App {
  constructor(zendesk) {
    this.zendesk = zendesk;
    this.view = null;
    this.openForm = "";
    this.trouble = null; // what went wrong with a click, shown above the card
    this.before = []; // what our last decision replaced in the ticket's form
    this.isBusy = false;
    this.generation = 0; // a later load makes the answers of an earlier one void
    this.actions = {
      open: (name) => this.open(name),
      close: () => this.close(),
      accept: () => this.decide({ kind: "accept" }),
      choose: (value, reason) => this.decide({ kind: "override", value, reason: reason || null }),
      handoff: (reason) => this.decide({ kind: "handoff", reason: reason || null }),
      undo: () => this.undo(),
      summarize: () => this.act(() => this.summarize(), "summary"),
      acceptSummary: () => this.decideSummary({ kind: "accept" }, "summary_accepted"),
      editSummary: (value) => this.decideSummary({ kind: "edit", value }, "summary_saved"),
    };
  }

  async load({ tries = 0, polls = 0 } = {}) {
    const generation = ++this.generation;
    if (!this.view) this.show(showLoading(polls ? "waiting" : "loading"), { isBusy: true });
    let view;
    try {
      view = await this.zendesk.ask("/card");
    } catch (error) {
      if (generation !== this.generation) return;
      if (error.kind === "busy" && tries < MAX_BUSY_TRIES) {
        this.later(() => this.load({ tries: tries + 1, polls }), error.retryAfterS, generation);
        return;
      }
      this.view = null;
      this.show([el("section", {}, showTrouble(error, () => this.load()))]);
      return;
    }
    if (generation !== this.generation) return;
    if (view.state === "waiting" && polls < MAX_POLLS) {
      this.view = null;
      this.show(showLoading("waiting"), { isBusy: true });
      this.later(() => this.load({ polls: polls + 1 }), view.poll_after_s, generation);
      return;
    }
    await this.take(view);
  }

  later(run, seconds, generation) {
    setTimeout(() => { if (generation === this.generation) run(); }, 1000 * (seconds || 1));
  }

  // Shows what the bot answered. A name is looked up in Zendesk: the bot knows support agents by number alone.
  async take(answer) {
    const { writes, apply, ...view } = answer;
    const shown = JSON.stringify(view);
    if (this.view && shown === this.shown) return; // nothing is new: a half-made choice stays as it is
    this.shown = shown;
    const { decision } = view;
    if (decision && !decision.is_own) decision.name = decision.agent_id ? await this.zendesk.getName(decision.agent_id) : decision.actor;
    this.view = view;
    this.openForm = "";
    this.trouble = null;
    this.shownAt = performance.now();
    this.render();
  }

  render() {
    const { view, actions } = this;
    const retry = () => { this.view = null; this.load(); };
    const parts = this.trouble ? [showTrouble(this.trouble.error, this.trouble.retry)] : [];
    if (view.state === "open") parts.push(showCard(view, actions, this.formIn("override", "handoff")));
    else if (view.state === "blind") parts.push(showBlind(view, actions, this.formIn("handoff")));
    else if (view.state === "decided") parts.push(showDecided(view, actions, this.formIn("override")));
    else parts.push(showNothing(view, retry));
    if (view.macro) parts.push(showMacro(view.macro, () => this.applyMacro()));
    if (view.inference_id) parts.push(showSummary(view.summary, actions, this.openForm));
    this.show(parts);
  }

  formIn(...names) {
    return names.includes(this.openForm) ? this.openForm : "";
  }

  show(parts, { isBusy = false } = {}) {
    main.replaceChildren(...parts);
    main.setAttribute("aria-busy", String(isBusy));
  }

  open(name) {
    this.openForm = name;
    this.render();
    const first = main.querySelector(name === "summary" ? "#summary-text" : "form select, form textarea");
    if (first) first.focus();
  }

  close() {
    const name = this.openForm;
    this.openForm = "";
    this.render();
    this.focusOn(`[data-name="${name}"]`);
  }

  focusOn(selector) {
    const found = main.querySelector(selector);
    if (found) found.focus();
  }

  announce(...keys) {
    status.textContent = [...new Set(keys)].map((key) => say(key)).join(" ");
  }

  // Runs one click. A second click meanwhile does nothing; what fails can be tried again, as the very same click.
  async act(run, focus = "") {
    if (this.isBusy) return;
    this.isBusy = true;
    this.generation += 1; // an answer to an earlier look must not overwrite the decision
    main.setAttribute("aria-busy", "true");
    main.querySelectorAll("button").forEach((one) => one.setAttribute("aria-disabled", "true"));
    try {
      this.trouble = null;
      await run();
      this.focusOn(focus ? `[data-name="${focus}"]` : "h2");
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      const isStale = error.kind === "conflict" || error.kind === "missing";
      this.shown = "";
      this.trouble = { error, retry: () => { if (isStale) { this.view = null; this.load(); } else this.act(run, focus); } };
      this.render();
      this.focusOn(".alert button");
    } finally {
      this.isBusy = false;
      main.setAttribute("aria-busy", "false");
      main.querySelectorAll("button").forEach((one) => one.removeAttribute("aria-disabled"));
    }
  }

  decide(choice) {
    const click = { inference_id: this.view.inference_id, key: newKey(), ...choice };
    click.decision_ms = Math.round(performance.now() - this.shownAt);
    const run = async () => {
      const view = await this.zendesk.ask("/decide", click);
      await this.take(view);
      this.announce("saved", await this.fillIn(view.writes));
    };
    return this.act(run);
  }

  async fillIn(writes) {
    if (!writes || !writes.length) return "saved";
    try {
      this.before = await this.zendesk.write(writes);
      return "fields_set";
    } catch {
      return this.warn("fields_not_set"); // not on this form, or not allowed: the decision itself is recorded
    }
  }

  warn(key) {
    main.prepend(el("p", { class: "alert warn", role: "alert" }, say(key)));
    return key;
  }

  undo() {
    const run = async () => {
      await this.take(await this.zendesk.ask("/undo"));
      const before = this.before.splice(0);
      await this.zendesk.restore(before).catch(() => this.warn("fields_not_set"));
      this.announce("undone");
    };
    return this.act(run);
  }

  applyMacro() {
    const click = { inference_id: this.view.inference_id, key: newKey() };
    const run = async () => {
      const view = await this.zendesk.ask("/macro", click);
      await this.take(view);
      await this.fillIn(view.writes);
      try {
        await this.zendesk.applyMacro(view.apply);
        this.announce("macro_applied");
      } catch {
        this.announce(this.warn("macro_failed")); // Zendesk refused it, or part of it: its own menu says why
      }
    };
    return this.act(run, "macro");
  }

  async summarize() {
    const { summary } = await this.zendesk.ask("/summary");
    this.view.summary = summary;
    this.render();
  }

  decideSummary(choice, said) {
    const click = { inference_id: this.view.summary.inference_id, key: newKey(), ...choice };
    const run = async () => {
      await this.take(await this.zendesk.ask("/summary/decide", click));
      this.announce(said);
    };
    return this.act(run, "summary");
  }
}

async function start() {
  const client = typeof ZAFClient === "undefined" ? null : window.ZAFClient.init();
  if (!client) return main.replaceChildren(showTrouble({ kind: "alone", message: "" }, null));
  const zendesk = new Zendesk(client);
  new ResizeObserver(() => zendesk.resize(document.documentElement.offsetHeight)).observe(document.body);
  main.replaceChildren(...showLoading("loading"));
  const isSetUp = await zendesk.open();
  chooseLanguage(zendesk.user.locale);
  document.documentElement.dataset.scheme = (await zendesk.getScheme()) === "dark" ? "dark" : "light";
  client.on("colorScheme.changed", (scheme) => { document.documentElement.dataset.scheme = scheme === "dark" ? "dark" : "light"; });
  if (!isSetUp) return main.replaceChildren(showTrouble({ kind: "setup", message: "" }, null));
  const app = new App(zendesk);
  const look = () => { if (!app.isBusy && !app.openForm) app.load(); };
  client.on("app.activated", look);
  client.on("ticket.updated", look);
  return app.load();
}

start();
