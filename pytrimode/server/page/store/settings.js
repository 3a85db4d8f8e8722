// Settings in the browser's own storage; nothing leaves it but requests to the server.

const SETTINGS = "pytrimode.settings";
const KEY = "pytrimode.key"; // the API key, until this tab is closed

export function read(key, otherwise, storage = "localStorage") {
  try {
    return JSON.parse(window[storage].getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/**
 * `options`: fields of requests that the user has set, by their names in the API. `racers`: the two modes of a race, which is
 * run where `race` is true. `presets`: name -> { system, options }.
 */
export const settings = {
  mode: null, live: true, theme: "auto", system: "", thinking: false, key: "", keepKey: false, race: false,
  racers: ["self-spec", "ar"], options: {}, presets: {}, ...read(SETTINGS, {}),
};
settings.key = read(KEY, settings.key, "sessionStorage");

/** The key stays with this tab, unless the user wants it to stay with the browser. */
export function saveSettings() {
  const { key, ...others } = settings;
  try {
    sessionStorage.setItem(KEY, JSON.stringify(key));
    localStorage.setItem(SETTINGS, JSON.stringify(settings.keepKey ? settings : others));
  } catch {
    // A full or forbidden storage: the settings hold until the page is closed.
  }
}
