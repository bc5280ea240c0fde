// Copy buttons: [data-copy] copies the text of the <pre> beside it, [data-copy-text] the text that it carries.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-text]");
  if (!button) return;
  event.preventDefault();
  const text = button.dataset.copyText ?? button.parentElement.querySelector("pre").textContent;
  const label = button.textContent;
  button.textContent = (await copy(text)) ? "Copied" : "Press Ctrl+C";
  setTimeout(() => (button.textContent = label), 1500);
});

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Browsers offer the clipboard on https and localhost only; the old way works everywhere.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

// A dialog takes the focus when it opens or shows its next step, and gives it back when it is closed.
let opener = null;

document.addEventListener("htmx:afterSettle", (event) => {
  if (!event.target.closest?.("#modal-content")) return;
  opener ??= document.activeElement;
  setTimeout(() => firstOf(document.querySelector("#dialog"))?.focus(), 60); // Alpine shows it in the meantime
});

new MutationObserver(() => opener && setTimeout(giveBack, 200)).observe(document, { subtree: true, attributeFilter: ["style"] });

function giveBack() {
  if (!opener || document.querySelector("#dialog")?.checkVisibility()) return;
  opener.focus();
  opener = null;
}

function firstOf(dialog) {
  return dialog?.querySelector("[aria-invalid], input:not([type=hidden]), select, textarea") ?? dialog?.querySelector("[type=submit]");
}
