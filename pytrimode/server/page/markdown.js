// Markdown of a model, which may be anything: to HTML, with code highlighted, and only through DOMPurify into the page.
import hljs from "./vendor/highlight.js";
import { Marked } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";
import { copy, h } from "./dom.js";

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escaped = (text) => text.replace(/[&<>"]/g, (c) => escapes[c]);

const marked = new Marked({
  gfm: true,
  renderer: {
    code({ text, lang }) {
      const language = (lang ?? "").match(/^[\w+#-]+/)?.[0].toLowerCase() ?? "";
      const code = hljs.getLanguage(language) ? hljs.highlight(text, { language }).value : escaped(text);
      return `<pre><code class="language-${language}">${code}\n</code></pre>`;
    },
    // What a model writes as HTML is shown, not run.
    html: ({ text }) => escaped(text),
    // No address is fetched because a model names it.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
  },
});

const allowed = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "input", "li", "ol", "p",
    "pre", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "checked", "class", "disabled", "href", "start", "type"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_TRUSTED_TYPE: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("rel", "noopener noreferrer");
    node.setAttribute("target", "_blank");
  }
  // Task lists have check boxes; no other input is let through.
  if (node.tagName === "INPUT") {
    if (node.getAttribute("type") === "checkbox") {
      node.setAttribute("disabled", "");
      node.setAttribute("aria-label", "done");
    } else node.remove();
  }
});

/** Put Markdown into an element. */
export function renderMarkdown(element, text) {
  element.innerHTML = DOMPurify.sanitize(marked.parse(text), allowed);
  for (const pre of element.querySelectorAll("pre")) {
    const language = pre.firstElementChild?.className.match(/language-(\S+)/)?.[1] ?? "";
    const code = pre.textContent;
    const button = h("button", { type: "button", onclick: () => copy(code, button) }, "Copy");
    const box = h("div", { class: "code" }, h("div", { class: "head" }, h("span", {}, language || "text"), button));
    pre.replaceWith(box);
    pre.tabIndex = 0; // long lines scroll: with the keyboard too
    pre.setAttribute("role", "region");
    pre.setAttribute("aria-label", `Code, ${language || "text"}`);
    box.append(pre);
  }
  for (const table of element.querySelectorAll("table")) table.tabIndex = 0;
}
