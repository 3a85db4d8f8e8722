// Elements without markup: everything that is not Markdown is made here, so that no text becomes HTML.

/** An element with properties (`class`, `on...`, `data-...`, any attribute) and children (nodes or text). */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Told to screen readers. */
export function announce(text) {
  $("status").textContent = text;
}

/** Copy, and say so on the button for a moment. */
export async function copy(text, button) {
  const before = button.textContent;
  const done = (await toClipboard(text)) || selectAndCopy(text);
  button.textContent = done ? "Copied" : "Not allowed";
  setTimeout(() => (button.textContent = before), 1500);
}

/** False where the browser has no clipboard for pages: they came by plain HTTP from another machine. */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function selectAndCopy(text) {
  const focused = document.activeElement;
  const area = h("textarea", { class: "hidden", readonly: true, "aria-hidden": "true" });
  area.value = text;
  // Within a dialog: nothing outside of an open one can have the focus.
  (focused?.closest("dialog") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}
