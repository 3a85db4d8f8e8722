// The settings dialog. An empty field is the server's default, which stands in it as a placeholder.
import { $, h } from "./dom.js";
import { saveSettings, settings } from "./store.js";

const NUMBERS = [
  ["temperature", "Temperature", { min: 0, max: 2, step: 0.05 }],
  ["top_p", "Top p", { min: 0, max: 1, step: 0.01 }],
  ["top_k", "Top k", { min: 0, step: 1 }],
  ["min_p", "Min p", { min: 0, max: 1, step: 0.01 }],
  ["max_tokens", "Most tokens", { min: 1, step: 1 }],
  ["seed", "Seed", { step: 1 }],
  ["block_length", "Block length", { min: 1, step: 1 }],
  ["threshold", "Threshold (diffusion)", { min: 0, max: 1, step: 0.01 }],
  ["max_thinking_tokens", "Most tokens of reasoning", { min: 0, step: 1 }],
];

/** The fields of a request that the user has set. */
export function requestFields() {
  const fields = { mode: settings.mode, live: settings.live };
  for (const [name] of NUMBERS) if (typeof settings[name] === "number") fields[name] = settings[name];
  if (settings.thinking) fields.chat_template_kwargs = { enable_thinking: true };
  return fields;
}

export function applyTheme() {
  document.documentElement.dataset.theme = settings.theme;
}

/** `defaults`: of the server, by name; `saved`: called with the new settings in place. */
export function openSettings(defaults, saved) {
  const dialog = $("settings");
  const field = (label, input, extra = "") => h("label", { class: `field ${extra}` }, label, input);
  const system = h("textarea", { rows: "3", name: "system", placeholder: "None" });
  system.value = settings.system;
  const numbers = NUMBERS.map(([name, label, limits]) => {
    const known = defaults[name];
    const input = h("input", { type: "number", name, inputmode: "decimal", placeholder: known === null || known === undefined ? "default" : String(known), ...limits });
    input.value = settings[name] ?? "";
    return field(label, input);
  });
  const theme = h("select", { name: "theme" }, ...["auto", "light", "dark"].map((name) => h("option", { value: name }, name)));
  theme.value = settings.theme;
  const key = h("input", { type: "password", name: "key", autocomplete: "off", placeholder: "None" });
  key.value = settings.key;
  const keepKey = h("input", { type: "checkbox", role: "switch", name: "keepKey" });
  keepKey.checked = settings.keepKey;
  const thinking = h("input", { type: "checkbox", role: "switch", name: "thinking" });
  thinking.checked = settings.thinking;
  const form = h(
    "form", { method: "dialog", onsubmit: () => store(form, saved) },
    h("h2", { id: "settings-title" }, "Settings"),
    h("div", { class: "fields" },
      field("System prompt", system, "all"), ...numbers, field("Colours", theme), field("API key", key),
      h("label", { class: "switch all" }, keepKey, "Keep the API key in this browser"),
      h("label", { class: "switch all" }, thinking, "Let the model reason before it answers")),
    h("div", { class: "end" }, h("button", { class: "plain", type: "button", onclick: () => dialog.close() }, "Cancel"),
      h("button", { class: "primary", type: "submit" }, "Save")),
  );
  dialog.replaceChildren(form);
  dialog.showModal();
}

function store(form, saved) {
  const given = new FormData(form);
  for (const name of ["system", "theme", "key"]) settings[name] = given.get(name).trim();
  for (const [name] of NUMBERS) settings[name] = given.get(name) === "" ? null : Number(given.get(name));
  settings.keepKey = given.has("keepKey");
  settings.thinking = given.has("thinking");
  saveSettings();
  applyTheme();
  saved();
}
