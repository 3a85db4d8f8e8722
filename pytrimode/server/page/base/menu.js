// A short list of things to do, beside the button that opens it.
import { $, h } from "./dom.js";

/** `entries`: [name, run]. */
export function openMenu(button, entries) {
  const menu = $("popup");
  const close = () => menu.hidePopover();
  const items = entries.map(([name, run]) => h("button", { type: "button", role: "menuitem", onclick: () => (close(), run()) }, name));
  menu.replaceChildren(...items);
  menu.showPopover();
  const place = button.getBoundingClientRect();
  const below = place.bottom + menu.offsetHeight < innerHeight;
  menu.style.top = `${below ? place.bottom + 2 : Math.max(4, place.top - menu.offsetHeight - 2)}px`;
  menu.style.left = `${Math.max(4, Math.min(place.left, innerWidth - menu.offsetWidth - 8))}px`;
  items[0].focus();
  menu.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") (event.stopPropagation(), close(), button.focus());
    if (!step) return;
    event.preventDefault();
    const at = items.indexOf(document.activeElement);
    items[(at + step + items.length) % items.length].focus();
  };
}
