// Says below a field what was typed means, as the server understands it. See core/console/widgets.py.
const DELAY = 300;
const TIME_LIMIT = 10000;

for (const place of document.querySelectorAll("[data-preview]")) start(place);

function start(place) {
  const form = place.closest("form");
  const fields = JSON.parse(place.dataset.fields);
  const defaults = JSON.parse(place.dataset.defaults);
  let timer = 0;
  let asked = 0;

  async function update() {
    const number = ++asked;
    const result = await ask(place.dataset.preview, form, fields, defaults);
    if (number === asked) show(place, result); // an older answer may come later
  }

  function plan(event) {
    const isOurs = Object.values(fields).some((name) => new RegExp(`^${name}(_[01])?$`).test(event.target.name));
    if (!isOurs) return;
    clearTimeout(timer);
    timer = setTimeout(update, DELAY);
  }

  form.addEventListener("input", plan);
  form.addEventListener("change", plan);
  update();
}

async function ask(url, form, fields, defaults) {
  let body;
  try {
    const entries = Object.entries(fields).map(([key, name]) => [key, valueOf(form, name) ?? defaults[key] ?? null]);
    body = JSON.stringify(Object.fromEntries(entries));
  } catch {
    return { faults: ["This is not JSON yet."] };
  }
  try {
    const answer = await fetch(url, {
      method: "POST",
      body,
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
      signal: AbortSignal.timeout(TIME_LIMIT),
    });
    const said = await answer.json();
    return answer.ok ? said : { faults: (said.errors ?? []).map((error) => error.detail).concat(said.errors?.length ? [] : said.detail) };
  } catch {
    return { faults: ["The preview cannot be loaded at the moment. Saving checks it as well."] };
  }
}

function valueOf(form, name) {
  const field = form.elements[name];
  if (field?.classList.contains("lab-json")) return JSON.parse(field.value || "{}");
  if (field) return field.value;
  const [day, time] = [0, 1].map((part) => form.elements[`${name}_${part}`]?.value ?? "");
  return day ? `${day}T${time || "00:00:00"}Z` : null; // the console's clock is UTC
}

function show(place, result) {
  const isWrong = Boolean(result.faults);
  place.classList.toggle("lab-preview-wrong", isWrong);
  const lines = isWrong ? result.faults : [result.explanation];
  const parts = lines.map((line) => element("p", line));
  if (result.runs?.length) parts.push(listOf(result.runs));
  place.replaceChildren(...parts);
}

function listOf(runs) {
  const list = element("ol");
  for (const run of runs) {
    const item = element("li");
    const time = element("time", wallClock(run.at_local));
    time.dateTime = run.at_utc;
    item.append(time);
    if (run.note) item.append(" ", element("strong", run.note));
    list.append(item);
  }
  return list;
}

// 2026-03-29T03:00:00+02:00 as `Sun 2026-03-29 03:00:00 +02:00`.
function wallClock(text) {
  const [, day, time, offset] = text.match(/^(.{10})T(.{8})[^+Z-]*(.*)$/) ?? [];
  if (!day) return text;
  const weekday = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][new Date(`${day}T00:00:00Z`).getUTCDay()];
  return `${weekday} ${day} ${time} ${offset}`;
}

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
