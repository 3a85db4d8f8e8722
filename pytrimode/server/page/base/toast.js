// A line at the foot of the page that goes away by itself, with something to do about what it says.
import { $, announce, h } from "./dom.js";

const SHOWN_MS = 12_000;
let timer = null;

function hide() {
  clearTimeout(timer);
  $("toast").replaceChildren();
}

/** `action`: { name, run }. It stays while the pointer or the focus is on it. */
export function toast(text, action = null) {
  hide();
  const button = action && h("button", { type: "button", onclick: () => (hide(), action.run()) }, action.name);
  const close = h("button", { type: "button", "aria-label": "Dismiss", onclick: hide }, "×");
  const line = h("div", { class: "line" }, h("span", {}, text), button, close);
  $("toast").replaceChildren(line);
  announce(text);
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(() => (line.matches(":hover, :focus-within") ? later() : hide()), SHOWN_MS);
  };
  later();
}
