// Markdown of a model, which may be anything, to HTML with code highlighted: in a worker, which the page can end.
import { extensions, OPTIONS } from "./formulas.js";
import hljs from "../vendor/highlight.js";
import { Marked } from "../vendor/marked.js";

const MOST_ELEMENTS = 15_000;
const MOST_NESTED = 60;
const MOST_CELLS = 200; // of a row of a table
const MOST_NESTED_FORMULA = 300;
const MOST_OF_FORMULAS = 12_000; // elements of all formulas of a text

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

const HAS_FORMULA = /\$|\\[([]|\\begin/;
let formulaElements = 0;

/** KaTeX is tried here, where it may take its time: the page sets only what came out well. */
function formula(tex, isDisplay, raw) {
  const asWritten = `<code>${escaped(raw.trim())}</code>`;
  if (formulaElements > MOST_OF_FORMULAS) return asWritten;
  try {
    const html = self.katex.renderToString(tex, { ...OPTIONS, displayMode: isDisplay });
    const { elements, depth } = weigh(html);
    if (depth > MOST_NESTED_FORMULA || (formulaElements += elements) > MOST_OF_FORMULAS) return asWritten;
    return `<code class="math${isDisplay ? " display" : ""}">${escaped(tex)}</code>`;
  } catch {
    return asWritten;
  }
}

marked.use({ extensions: extensions(formula) });

/** Elements, how deep they are nested, and the most cells of a row. A cell counts twice: so long its place takes to find. */
function weigh(html) {
  let elements = 0, open = 0, depth = 0, row = 0, cells = 0;
  for (const [, end, name] of html.matchAll(/<(\/?)([a-z][a-z0-9]*)/g)) {
    if (end) {
      open -= 1;
      continue;
    }
    elements += 1;
    if (!["br", "hr", "input"].includes(name)) open += 1;
    if (name === "tr") row = 0;
    if (name === "td" || name === "th") {
      elements += 1;
      row += 1;
    }
    depth = Math.max(depth, open);
    cells = Math.max(cells, row);
  }
  return { elements, depth, cells };
}

/** Whether a browser would take long to show it: too many elements, nested too deeply, or rows that are too wide. */
function isTooMuch(html) {
  const { elements, depth, cells } = weigh(html);
  return elements + formulaElements > MOST_ELEMENTS || depth > MOST_NESTED || cells > MOST_CELLS;
}

onmessage = async ({ data }) => {
  let html = null;
  formulaElements = 0;
  try {
    if (HAS_FORMULA.test(data)) await katex;
    const made = marked.parse(data);
    if (!isTooMuch(made)) html = made;
  } catch {
    // Nested too deeply for the parser's stack.
  }
  postMessage(html);
};
postMessage("ready");
const katex = import("../vendor/katex.js"); // sets a global
