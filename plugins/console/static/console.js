// Comforts on top of plain forms: keys, label search, copy, live progress, local times. Every page works without this file.
"use strict";
document.documentElement.classList.add("js");

const live = document.getElementById("live");
const say = (text) => { if (live) live.textContent = text; };

// Times stand in UTC; the tooltip shows them where the reader is.
for (const time of document.querySelectorAll("time[datetime]")) time.title = new Date(time.dateTime).toLocaleString();
for (const field of document.querySelectorAll("[data-here]")) field.value = location.pathname;

// A flash is said once: reloading must not say it again.
if (document.querySelector("[data-flash]")) {
  const url = new URL(location.href);
  url.searchParams.delete("done");
  history.replaceState(null, "", url);
}

// One click, one request. The form's key already makes a second one harmless.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  if (event.target.dataset.sent) return event.preventDefault();
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => document.querySelectorAll("[data-sent]").forEach((form) => delete form.dataset.sent));

// Keys. A checkbox turns them off, since single keys get in the way of speech input.
const toggle = document.getElementById("shortcuts");
const read = () => { try { return localStorage.getItem("shortcuts") !== "off"; } catch { return true; } };
if (toggle) {
  toggle.checked = read();
  toggle.addEventListener("change", () => { try { localStorage.setItem("shortcuts", toggle.checked ? "on" : "off"); } catch { /* private window */ } });
}
const links = [...document.querySelectorAll("[data-list] .ticket-link")];
function move(step) {
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + step))];
  if (next) next.focus();
}
function openPanel(panel) {
  panel.open = true;
  const field = panel.querySelector("[data-focus]");
  if (field) field.focus();
  panel.scrollIntoView({ block: "nearest" });
}
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select");
  if (event.key === "Escape") {
    const panel = event.target.closest("details.panel[open]");
    if (panel) { panel.open = false; panel.querySelector("summary").focus(); }
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat && !"jk".includes(event.key) || toggle && !toggle.checked) return;
  if (event.target.matches("input[type=radio]") && event.key === "Enter") return;
  if ((event.key === "j" || event.key === "k") && links.length) { event.preventDefault(); move(event.key === "j" ? 1 : -1); return; }
  const panel = /^[a-z]$/.test(event.key) && document.querySelector(`details[data-panel="${event.key}"]`);
  const button = /^[a-z]$/.test(event.key) && document.querySelector(`[data-key="${event.key}"]`);
  if (panel) { event.preventDefault(); openPanel(panel); } else if (button) { event.preventDefault(); button.click(); }
});
for (const panel of document.querySelectorAll("details.panel")) {
  panel.querySelector("summary").addEventListener("click", () => setTimeout(() => { if (panel.open) openPanel(panel); }));
}

// Find a label: words narrow the list, arrow down goes into it, Enter takes the first that is left.
for (const form of document.querySelectorAll("[data-choose]")) {
  const find = form.querySelector("[data-find]");
  const options = [...form.querySelectorAll(".option")];
  const none = form.querySelector("[data-none]");
  const left = () => options.filter((option) => !option.hidden);
  const pick = (option) => { const radio = option.querySelector("input"); radio.checked = true; radio.focus(); option.scrollIntoView({ block: "nearest" }); };
  find.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const option of options) option.hidden = !words.every((word) => option.textContent.toLowerCase().includes(word));
    none.hidden = left().length > 0;
    say(`${left().length} labels`);
  });
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault();
    if (left().length) pick(left()[0]);
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.querySelector(button.dataset.copy).textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Select and copy it by hand"; }
    say(button.textContent);
  });
}

// Live progress. The server ends a stream after some seconds and the browser comes back by itself.
for (const box of document.querySelectorAll("[data-progress]")) {
  const set = (name, text) => { box.querySelector(`[data-${name}]`).textContent = text || "–"; };
  const source = new EventSource(box.dataset.progress);
  let said = "";
  source.addEventListener("message", (event) => {
    const run = JSON.parse(event.data);
    box.querySelector("progress").value = run.percent;
    set("percent", `${run.percent}%`); set("status", run.status); set("message", run.message); set("loss", run.loss); set("eta", run.eta);
    if (run.status !== said) { said = run.status; say(`${run.status}, ${run.percent}%`); }
    if (run.isOver) { source.close(); location.assign(box.dataset.ended); }
  });
  addEventListener("pagehide", () => source.close());
}
