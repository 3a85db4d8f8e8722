// How the next answer is decoded: one mode, or a race of two.
import { $, h } from "../base/dom.js";
import { MODE_NAMES } from "../answer/race.js";
import { saveSettings, settings } from "../store/settings.js";

let possible = [];

/** `modes`: those of the model; `preset`: the server's. */
export function showModes(modes, preset) {
  possible = modes;
  if (!modes.includes(settings.mode)) settings.mode = modes.includes(preset) ? preset : modes[0];
  const choices = Object.entries(MODE_NAMES).map(([mode, name]) => {
    const input = h("input", { type: "radio", name: "mode", value: mode, disabled: !modes.includes(mode) });
    input.checked = mode === settings.mode;
    input.addEventListener("change", () => choose(mode));
    return h("label", {}, input, h("span", {}, name));
  });
  $("modes").replaceChildren($("modes").firstElementChild, ...choices);
  const canRace = modes.length > 2;
  if (!canRace) settings.race = false;
  $("race").parentElement.hidden = !canRace;
  showRacers();
}

function choose(mode) {
  settings.mode = mode;
  saveSettings();
}

/** Of the four, by number. */
export function chooseNumber(number) {
  const input = $("modes").querySelectorAll("input")[number];
  if (!input || input.disabled || settings.race) return;
  input.checked = true;
  choose(input.value);
}

export function toggleRace(on = !settings.race) {
  if (possible.length <= 2) return;
  settings.race = on;
  saveSettings();
  showRacers();
}

function showRacers() {
  $("race").checked = settings.race;
  $("modes").hidden = settings.race;
  $("racers").hidden = !settings.race;
  if (!settings.race) return;
  settings.racers = settings.racers.map((mode, i) => (possible.includes(mode) ? mode : possible[i + 1]));
  const selects = settings.racers.map((racer, i) => {
    const options = possible.filter((mode) => mode !== settings.racers[1 - i]).map((mode) => h("option", { value: mode }, MODE_NAMES[mode]));
    const select = h("select", { "aria-label": i ? "Second mode" : "First mode" }, ...options);
    select.value = racer;
    select.addEventListener("change", () => {
      settings.racers = settings.racers.with(i, select.value);
      saveSettings();
      showRacers();
    });
    return select;
  });
  $("racers").replaceChildren($("racers").firstElementChild, selects[0], h("span", { class: "quiet" }, "against"), selects[1]);
}
