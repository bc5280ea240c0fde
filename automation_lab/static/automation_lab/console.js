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
