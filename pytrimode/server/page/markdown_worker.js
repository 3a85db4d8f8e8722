// Markdown of a model, which may be anything, to HTML with code highlighted: in a worker, which the page can end.
import hljs from "./vendor/highlight.js";
import { Marked } from "./vendor/marked.js";

const MOST_ELEMENTS = 15_000;
const MOST_NESTED = 60;
const MOST_CELLS = 200; // of a row of a table

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

/** Whether a browser would take long to show it: too many elements, nested too deeply, or rows that are too wide. */
function isTooMuch(html) {
  let elements = 0, depth = 0, cells = 0;
  for (const [, end, name] of html.matchAll(/<(\/?)([a-z][a-z0-9]*)/g)) {
    if (end) {
      depth -= 1;
      continue;
    }
    elements += 1;
    if (!["br", "hr", "input"].includes(name)) depth += 1;
    if (name === "tr") cells = 0;
    if (name === "td" || name === "th") cells += 1;
    if (elements > MOST_ELEMENTS || depth > MOST_NESTED || cells > MOST_CELLS) return true;
  }
  return false;
}

onmessage = ({ data }) => {
  let html = null;
  try {
    const made = marked.parse(data);
    if (!isTooMuch(made)) html = made;
  } catch {
    // Nested too deeply for the parser's stack.
  }
  postMessage(html);
};
postMessage("ready");
