// The settings dialog. An empty field is the server's default, which stands in it as a placeholder.
import { $, h } from "../base/dom.js";
import { requestSchema } from "../server/api.js";
import { saveSettings, settings } from "../store/settings.js";
import { moreFields, usualFields } from "./fields.js";

export function applyTheme() {
  document.documentElement.dataset.theme = settings.theme;
}

const labelled = (label, input, extra = "") => h("label", { class: `field ${extra}` }, label, input);

function switchFor(name, label, on) {
  const input = h("input", { type: "checkbox", role: "switch", name });
  input.checked = on;
  return h("label", { class: "switch all" }, input, label);
}

/** `defaults`: of the server, by name; `saved`: called with the new settings in place. */
export function openSettings(defaults, saved) {
  const dialog = $("settings");
  const system = h("textarea", { rows: "3", name: "system", placeholder: "None", dir: "auto" });
  let fields = usualFields(defaults);
  const write = ({ system: text, options }) => {
    system.value = text;
    for (const field of fields) field.write(options[field.name]);
  };
  const read = () => {
    const options = {};
    for (const field of fields) {
      const value = field.read();
      if (value !== undefined) options[field.name] = value;
    }
    // What is under "More", and was not asked for.
    return { system: system.value.trim(), options: fields.isWhole ? options : { ...settings.options, ...cleared(fields), ...options } };
  };
  const theme = h("select", { name: "theme" }, ...["auto", "light", "dark"].map((name) => h("option", { value: name }, name)));
  theme.value = settings.theme;
  const key = h("input", { type: "password", name: "key", autocomplete: "off", placeholder: "None" });
  key.value = settings.key;
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const more = h("details", { class: "all more-fields" }, h("summary", {}, "More: every option of the server"));
  more.addEventListener("toggle", async () => {
    if (!more.open || fields.isWhole) return;
    try {
      const others = moreFields(await requestSchema(), defaults);
      for (const field of others) field.write(settings.options[field.name]);
      fields = [...fields, ...others];
      fields.isWhole = true;
      more.append(h("div", { class: "fields" }, ...others.map(({ element }) => element)));
    } catch (error) {
      more.append(h("p", { class: "note" }, `The server did not tell its options: ${error.message}`));
    }
  });
  const store = (event) => {
    event.preventDefault();
    try {
      Object.assign(settings, read());
    } catch (error) {
      problem.hidden = false;
      problem.textContent = error.message;
      return;
    }
    const given = new FormData(form);
    for (const name of ["theme", "key"]) settings[name] = given.get(name).trim();
    for (const name of ["keepKey", "thinking"]) settings[name] = given.has(name);
    saveSettings();
    applyTheme();
    dialog.close();
    saved();
  };
  const form = h(
    "form", { method: "dialog", onsubmit: store },
    h("h2", { id: "settings-title" }, "Settings"), presetBar(read, write), problem,
    h("div", { class: "fields" },
      labelled("System prompt", system, "all"), ...fields.map(({ element }) => element), more, labelled("Colours", theme),
      labelled("API key", key), switchFor("keepKey", "Keep the API key in this browser", settings.keepKey),
      switchFor("thinking", "Let the model reason before it answers", settings.thinking)),
    h("div", { class: "end" }, h("button", { class: "plain", type: "button", onclick: () => dialog.close() }, "Cancel"),
      h("button", { class: "primary", type: "submit" }, "Save")),
  );
  write(settings);
  dialog.replaceChildren(form);
  dialog.showModal();
}

const cleared = (fields) => Object.fromEntries(fields.map(({ name }) => [name, undefined]));

/** Presets: a system prompt and options under a name. */
function presetBar(read, write) {
  const choice = h("select", { "aria-label": "Preset" });
  const name = h("input", { "aria-label": "Name of the preset", placeholder: "Name", maxlength: "60", hidden: true });
  const remove = h("button", { class: "plain", type: "button" }, "Delete");
  const save = h("button", { class: "plain", type: "button" }, "Save as preset");
  const list = (chosen = "") => {
    const options = Object.keys(settings.presets).sort().map((one) => h("option", { value: one }, one));
    choice.replaceChildren(h("option", { value: "" }, "Preset"), ...options);
    choice.value = chosen;
    remove.hidden = !chosen;
  };
  choice.addEventListener("change", () => {
    remove.hidden = !choice.value;
    write(settings.presets[choice.value] ?? { system: "", options: {} });
  });
  remove.addEventListener("click", () => {
    delete settings.presets[choice.value];
    saveSettings();
    list();
  });
  const keep = () => {
    if (name.hidden) {
      name.hidden = false;
      name.value = choice.value;
      return name.focus();
    }
    if (!name.value.trim()) return name.focus();
    settings.presets[name.value.trim()] = read();
    saveSettings();
    list(name.value.trim());
    name.hidden = true;
  };
  save.addEventListener("click", keep);
  name.addEventListener("keydown", (event) => {
    if (event.key === "Enter") (event.preventDefault(), keep());
    if (event.key === "Escape") (event.preventDefault(), event.stopPropagation(), (name.hidden = true));
  });
  list();
  return h("div", { class: "presets" }, choice, name, save, remove);
}
