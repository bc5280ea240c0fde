// Keys for the list of webhooks and for the page of one; "/" for the search is unfold's.
const ROWS = "#result_list tbody tr.data-row";
const CURRENT = "lab-current";

const keys = {
  j: () => move(1),
  k: () => move(-1),
  o: () => linkOf(current())?.click(),
  Enter: () => linkOf(current())?.click(),
  p: () => current()?.querySelector("td:has(.material-symbols-outlined)")?.click(),
  x: () => current()?.querySelector("input.action-select")?.click(),
  r: replay,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isBusy(event.target)) return;
  const act = keys[event.key];
  if (!act || (event.key === "Enter" && event.target !== document.body)) return;
  if (act() !== false) event.preventDefault();
});

function isBusy(target) {
  const dialog = document.querySelector("#dialog");
  return target.isContentEditable || target.closest("input, textarea, select") || (dialog && dialog.checkVisibility());
}

function rows() {
  return [...document.querySelectorAll(ROWS)];
}

function current() {
  return document.querySelector(`.${CURRENT}`);
}

function linkOf(row) {
  return row?.querySelector("th a, td a");
}

function move(step) {
  const all = rows();
  if (!all.length) return false;
  const at = all.indexOf(current());
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  current()?.classList.remove(CURRENT);
  next.classList.add(CURRENT);
  next.scrollIntoView({ block: "nearest" });
  linkOf(next)?.focus({ preventScroll: true });
}

// The page that it leads to asks before anything is sent.
function replay() {
  const page = document.querySelector("a[href*='/webhook/'][href$='/replay/']");
  if (page) return page.click();
  const link = linkOf(current());
  if (!link) return false;
  location.href = new URL(link.href).pathname.replace(/change\/$/, "replay/");
}
