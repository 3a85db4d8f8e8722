// Markdown of a model, which may be anything: only through DOMPurify into the page, and as plain text what takes too long.
import DOMPurify from "../vendor/purify.js";
import { copy, h } from "../base/dom.js";
import { setFormulas } from "./math.js";
import { parseMarkdown } from "./parser.js";

const BUDGET_MS = 400; // while an answer is written
const LAST_BUDGET_MS = 2_000;
const BLOCKS = ":scope > :is(p, h1, h2, h3, h4, h5, h6, ul, ol, table, blockquote)";

const allowed = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "input", "li", "ol", "p",
    "pre", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "checked", "class", "disabled", "href", "start", "type"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  // No addresses, so not held to that.
  ADD_URI_SAFE_ATTR: ["align", "start", "type"],
  RETURN_TRUSTED_TYPE: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("rel", "noopener noreferrer");
    node.setAttribute("target", "_blank");
  }
  // Task lists have check boxes; no other input is let through, and no other element has a type.
  if (node.tagName !== "INPUT") node.removeAttribute("type");
  else if (node.getAttribute("type") === "checkbox") {
    node.setAttribute("disabled", "");
    node.setAttribute("aria-label", "done");
  } else node.remove();
});

const newest = new WeakMap(); // element -> the number of the last text that was asked for in it
let count = 0;

/**
 * Put Markdown into an element, as soon as it is parsed; until then a new one shows it as plain text, and for good where
 * that would take too long. `last`: no more will come. False: it stays plain.
 */
export async function renderMarkdown(element, text, { last }) {
  const mine = (count += 1);
  newest.set(element, mine);
  if (!element.hasChildNodes()) showPlain(element, text);
  const html = await parseMarkdown(text, last ? LAST_BUDGET_MS : BUDGET_MS);
  if (newest.get(element) !== mine) return true;
  if (html === null) showPlain(element, text);
  else show(element, html);
  return html !== null;
}

function showPlain(element, text) {
  element.classList.add("plain");
  element.textContent = text;
}

function show(element, html) {
  element.classList.remove("plain");
  element.innerHTML = DOMPurify.sanitize(html, allowed);
  for (const pre of element.querySelectorAll("pre")) {
    const language = pre.firstElementChild?.className.match(/language-(\S+)/)?.[1] ?? "";
    const code = pre.textContent;
    const button = h("button", { type: "button", onclick: () => copy(code, button) }, "Copy");
    const box = h("div", { class: "code" }, h("div", { class: "head" }, h("span", {}, language || "text"), button));
    pre.replaceWith(box);
    box.dir = "ltr";
    pre.tabIndex = 0; // long lines scroll: with the keyboard too
    pre.setAttribute("role", "group");
    pre.setAttribute("aria-label", `Code, ${language || "text"}`);
    box.append(pre);
  }
  for (const table of element.querySelectorAll("table")) table.tabIndex = 0;
  // Each block is written in the direction of its first letter, what is in it too; code runs from left to right.
  for (const block of element.querySelectorAll(BLOCKS)) block.dir = "auto";
  setFormulas(element);
}
