// Keys, and the sheet that lists them.
import { $, h } from "../base/dom.js";

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
const CTRL = isMac ? "⌘" : "Ctrl";

/** [keys as they are shown, what they do]; those of the composer and of editing are handled where they belong. */
const SHEET = [
  [["Enter"], "Send"], [["Shift", "Enter"], "New line"], [["Esc"], "Stop the answer, close what is open"],
  [["/"], "To the message box"], [[CTRL, "K"], "Search conversations"], [["Alt", "N"], "New conversation"],
  [["Alt", "1"], "Mode Auto; 2 Self-spec, 3 Diffusion, 4 AR"], [["Alt", "R"], "Race of two modes on or off"],
  [["Alt", "L"], "Live view on or off"], [["Alt", ","], "Settings"], [["↑"], "In an empty box: edit the last question"],
  [[CTRL, "Enter"], "While editing: send again"], [["?"], "This list"],
];

export function openShortcuts() {
  const rows = SHEET.flatMap(([keys, text]) => [h("dt", {}, ...keys.map((key) => h("kbd", {}, key))), h("dd", {}, text)]);
  const close = h("button", { class: "primary", type: "button", onclick: () => $("sheet").close() }, "Close");
  $("sheet").replaceChildren(h("h2", { id: "sheet-title" }, "Keys"), h("dl", { class: "keys" }, ...rows), h("div", { class: "end" }, close));
  $("sheet").showModal();
}

const isWriting = (element) => element?.matches("input:not([type=radio], [type=checkbox], [type=range]), textarea, select");

/** `actions`: { focus, search, create, mode(number), race, live, settings, stop }. */
export function useShortcuts(actions) {
  const altKeys = { KeyN: actions.create, KeyR: actions.race, KeyL: actions.live, Comma: actions.settings };
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const handled = () => event.preventDefault();
    if (event.key === "Escape") return actions.stop();
    if (event.altKey && !event.ctrlKey && !event.metaKey) {
      const digit = /^Digit([1-4])$/.exec(event.code)?.[1];
      if (digit) return handled(), actions.mode(Number(digit) - 1);
      if (altKeys[event.code]) return handled(), altKeys[event.code]();
    }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") return handled(), actions.search();
    if (isWriting(event.target) || event.ctrlKey || event.metaKey || event.altKey) return undefined;
    if (event.key === "/") return handled(), actions.focus();
    if (event.key === "?") return handled(), openShortcuts();
    return undefined;
  });
}
