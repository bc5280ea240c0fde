// The page of a run: follows it while it goes on, and fetches the data of a step when it is opened.
import { morph } from "./morph.js";

const PARTS = "#content-main .lab-panel, #content-main .readonly";
const INTERVAL = 2000;
const SLOWEST = 30000;
const TIME_LIMIT = 10000;

const loaded = new WeakMap(); // the place of a step's data -> the version that it holds
let wait = INTERVAL;
let timer = 0;
let isFetching = false;

function marker() {
  return document.querySelector("[data-live]");
}

function plan() {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, wait);
}

async function refresh() {
  if (isFetching) return;
  isFetching = true;
  try {
    const page = await fetchPage();
    wait = INTERVAL;
    if (page) show(page);
    else stop("Signed out. Reload the page to go on.");
  } catch {
    wait = Math.min(wait * 2, SLOWEST);
    say("The server does not answer; trying again.");
  } finally {
    isFetching = false;
  }
  if (marker()) plan();
}

async function fetchPage() {
  const answer = await fetch(location.href, { signal: AbortSignal.timeout(TIME_LIMIT) });
  if (answer.redirected || answer.status === 403) return null;
  if (!answer.ok) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function show(page) {
  const isOver = !page.querySelector("[data-live]");
  const [now, next] = [document, page].map((root) => [...root.querySelectorAll(PARTS)]);
  if (now.length !== next.length) return location.reload(); // another kind of part has appeared
  now.forEach((part, index) => morph(part, next[index]));
  if (!isOver) return say(page.querySelector("[data-live]").textContent);
  // The buttons above belong to a run that goes on. Whoever is reading or answering is not disturbed.
  if (!isBusy()) return location.reload();
  stop("This run has ended. Reload the page for its other buttons.");
}

function stop(text) {
  say(text);
  marker()?.removeAttribute("data-live");
}

function isBusy() {
  const dialog = document.querySelector("#dialog");
  return (dialog && dialog.checkVisibility()) || document.querySelector("#content-main details[open]") || String(getSelection());
}

function say(text) {
  const place = marker();
  if (place && place.textContent !== text) place.textContent = text;
}

async function load(details) {
  const place = details.querySelector("[data-keep]");
  const version = details.dataset.version;
  if (!place || loaded.get(place) === version) return;
  loaded.set(place, version);
  try {
    const answer = await fetch(details.dataset.load, { signal: AbortSignal.timeout(TIME_LIMIT) });
    if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
    place.innerHTML = await answer.text();
  } catch {
    loaded.delete(place);
    place.textContent = "This could not be loaded. Close and open it again.";
  }
}

document.addEventListener("toggle", (event) => event.target.matches("details[data-load]") && event.target.open && load(event.target), true);

if (marker()) {
  marker().hidden = false;
  const changed = new MutationObserver((records) => {
    for (const { target } of records) if (target.open) load(target);
  });
  changed.observe(document.querySelector("#content-main"), { subtree: true, attributeFilter: ["data-version"] });
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
  plan();
}
