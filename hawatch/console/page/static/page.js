"use strict";
// Keeps the page fresh and shows confirmations in a dialog. Everything is made by the server, escaped there, and put
// in place here; without this script the page is the same, as of when it was loaded.
const main = document.getElementById("main");
const live = document.getElementById("live");
const said = document.getElementById("said");
const dialog = document.getElementById("dialog");
const LOST_MS = 2000, LOST_MAX_MS = 15000, LIMIT_MS = 20000;
// What is true of a page that shows no trouble, before its title.
const MARKS = { bad: "\u25cf ", warn: "\u25cb " };
let newest = "", fresh = Date.now(), asking = null;

function parse(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return holder.content.firstElementChild;
}

// Makes one element like another and keeps what is the same, so that focus and selection stay where they are.
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeName !== fresh.nodeName || old.nodeType !== Node.ELEMENT_NODE) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const named = new Map();
  for (const child of old.children) if (child.id) named.set(child.id, child);
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = wanted.id && named.get(wanted.id);
    if (known && known !== place) old.insertBefore(known, place);
    const mine = known || place;
    if (!mine || (mine.id && !known)) {
      old.insertBefore(wanted, place);
      continue;
    }
    const next = mine.nextSibling;
    morph(mine, wanted);
    place = next;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function age(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function tellTimes() {
  for (const each of document.querySelectorAll("time")) {
    const when = new Date(each.dateTime);
    if (Number.isNaN(when.getTime())) continue;
    const text = each.className === "ago"
      ? `for ${age((Date.now() - when.getTime()) / 1000)}`
      : when.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
    if (each.textContent !== text) each.textContent = text;
    if (!each.title) each.title = each.dateTime;
  }
}

function tellNews() {
  const first = document.querySelector(".events li");
  const head = document.getElementById("head");
  if (head) document.title = `${MARKS[head.dataset.tone] || ""}${head.dataset.title}`;
  if (!first || first.textContent === newest) return;
  if (newest && !first.classList.contains("info")) said.textContent = first.textContent;
  newest = first.textContent;
}

function put(parts) {
  for (const [id, html] of Object.entries(parts)) {
    const old = document.getElementById(id);
    if (old) morph(old, parse(html));
  }
}

async function reload() {
  const response = await fetch(location.href, { credentials: "same-origin" });
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("main");
  if (!response.ok || !fresh || !fresh.dataset.live) {
    location.reload();
    return;
  }
  morph(main, document.adoptNode(fresh));
}

async function ask() {
  const query = new URLSearchParams({ page: main.dataset.live, since: main.dataset.version });
  asking = new AbortController();
  const timer = setTimeout(() => asking.abort(), LIMIT_MS);
  const response = await fetch(`/changes?${query}`, { signal: asking.signal }).finally(() => clearTimeout(timer));
  if (response.status === 401) {
    location.reload();
    return LIMIT_MS;
  }
  if (!response.ok) throw new Error(`${response.status}`);
  const answer = await response.json();
  if (answer.reload) await reload();
  else {
    const begin = performance.now();
    put(answer.parts);
    main.dataset.version = answer.version;
    if (Object.keys(answer.parts).length) performance.measure("update", { start: begin });
  }
  tellTimes();
  tellNews();
  return (answer.wait ?? 0.1) * 1000;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function tellLive(alive) {
  if (alive) fresh = Date.now();
  document.body.classList.toggle("old", !alive);
  const clock = new Date(fresh).toLocaleTimeString();
  const text = alive ? `live, ${clock}` : `The console does not answer: what you see is old, of ${clock}. Trying again.`;
  if (live.className !== (alive ? "" : "lost")) {
    live.className = alive ? "" : "lost";
    said.textContent = alive ? "The console answers again." : text;
  }
  live.textContent = text;
}

async function follow() {
  let lost = 0;
  for (;;) {
    let wait;
    try {
      wait = await ask();
      lost = 0;
      tellLive(true);
    } catch {
      if (!document.hidden) {
        lost += 1;
        tellLive(false);
      }
      wait = Math.min(LOST_MS * lost, LOST_MAX_MS);
    }
    await pause(wait);
    while (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

// A browser has six connections to a server: tabs that nobody looks at leave them to the others.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && asking) asking.abort();
});

async function show(url, body) {
  const response = await fetch(url, body ? { method: "POST", body } : {});
  dialog.replaceChildren(parse(await response.text()));
  if (!dialog.open) dialog.showModal();
  (dialog.querySelector("[autofocus]") || dialog.querySelector("a, button")).focus();
}

function fail(error) {
  dialog.replaceChildren(document.createTextNode(`The console does not answer (${error.message}). Escape closes this.`));
  if (!dialog.open) dialog.showModal();
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.id === "act") {
    event.preventDefault();
    show(`/act?${new URLSearchParams({ what: event.submitter.value, part: "1" })}`).catch(fail);
  } else if (dialog.contains(form)) {
    event.preventDefault();
    const button = form.querySelector(".sure");
    if (button.disabled) return;
    button.disabled = true;
    show("/act?part=1", new URLSearchParams(new FormData(form))).catch(fail);
  }
});

dialog.addEventListener("click", (event) => {
  if (event.target.classList.contains("cancel")) {
    event.preventDefault();
    dialog.close();
  }
});

tellTimes();
tellNews();
setInterval(tellTimes, 5000);
if (main.dataset.live) follow();
