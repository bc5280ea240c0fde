// Shows, of the settings, those of the chosen scheme, and of the rule for repetitions its own value.
const scheme = document.querySelector("#id_scheme");
const rule = document.querySelector("#id_dedupe_by");
const values = { json_path: "#id_dedupe_path", body_hash: "#id_dedupe_window" };

function rowOf(field) {
  return field.closest(".field-line") ?? field.parentElement;
}

function showSettings() {
  for (const field of document.querySelectorAll("[data-schemes]"))
    rowOf(field).hidden = !field.dataset.schemes.split(" ").includes(scheme.value);
  hideEmptyRows();
}

function showRule() {
  for (const [by, name] of Object.entries(values)) {
    const field = document.querySelector(name);
    if (field) rowOf(field).hidden = rule.value !== by;
  }
  hideEmptyRows();
}

function hideEmptyRows() {
  for (const row of document.querySelectorAll(".form-row")) {
    const fields = [...row.querySelectorAll(".field-line")];
    if (fields.length) row.hidden = fields.every((field) => field.hidden);
  }
}

if (scheme) {
  scheme.addEventListener("change", showSettings);
  showSettings();
}
if (rule) {
  rule.addEventListener("change", showRule);
  showRule();
}
