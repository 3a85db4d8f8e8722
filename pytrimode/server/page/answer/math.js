// Formulas that the worker found good, set by KaTeX: as elements, never as HTML, so that the sanitizer lets nothing more through.
import { h } from "../base/dom.js";
import { OPTIONS } from "./formulas.js";

const AT_ONCE_MS = 30; // after which the page may do something else
const MOST_KEPT = 500;

const made = new Map(); // what was set before: while an answer is written it comes again and again
let loaded = null;

function load() {
  const styles = h("link", { rel: "stylesheet", href: new URL("../vendor/katex.css", import.meta.url).href });
  document.head.append(styles);
  return import("../vendor/katex.js").then(() => window.katex);
}

const nameOf = (code) => `${code.className}:${code.textContent}`;

function set(katex, code) {
  const displayMode = code.classList.contains("display");
  const element = h("span", { dir: "ltr", class: "formula" });
  katex.render(code.textContent, element, { ...OPTIONS, displayMode });
  if (displayMode) element.tabIndex = 0; // long ones scroll: with the keyboard too
  if (made.size >= MOST_KEPT) made.delete(made.keys().next().value);
  made.set(nameOf(code), element);
}

function replace(code) {
  const element = made.get(nameOf(code));
  if (element) code.replaceWith(element.cloneNode(true));
  return Boolean(element);
}

/** Set the formulas in an element, in the time between other things. */
export async function setFormulas(element) {
  const waiting = [...element.querySelectorAll("code.math")].filter((code) => !replace(code));
  if (!waiting.length) return;
  const katex = await (loaded ??= load());
  let begin = performance.now();
  for (const code of waiting) {
    if (!code.isConnected) return;
    if (!made.has(nameOf(code))) set(katex, code);
    replace(code);
    if (performance.now() - begin < AT_ONCE_MS) continue;
    await new Promise((resolve) => setTimeout(resolve));
    begin = performance.now();
  }
}
