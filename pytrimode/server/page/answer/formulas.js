// Formulas in Markdown, for the worker: `$...$`, `$$...$$`, `\(...\)`, `\[...\]` and LaTeX's environments of their own.
// A formula that KaTeX can set becomes <code class="math"> with its source, which math.js sets in the page; any other
// stays as it was written.

export const OPTIONS = { throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 200 };
const LONGEST = 4_000; // characters
const ENVIRONMENTS = "align|alignat|aligned|cases|equation|gather|matrix|[bpvBV]matrix";

// A dollar before a space is money, so is one after a space or before a digit: "$5 and $10".
const INLINE = new RegExp(
  String.raw`^(?:\$\$(?<display>[^$]{1,${LONGEST}})\$\$|\$(?![\s$])(?<dollars>(?:\\[^\n]|[^\\$\n\`]){1,${LONGEST}})(?<![\s])\$(?![\d$])` +
  String.raw`|\\\((?<round>[^]{1,${LONGEST}}?)\\\)|\\\[(?<square>[^]{1,${LONGEST}}?)\\\])`,
);
const BLOCK = new RegExp(
  String.raw`^ {0,3}(?:\$\$(?<display>[^$]{1,${LONGEST}})\$\$|\\\[(?<square>[^]{1,${LONGEST}}?)\\\]` +
  String.raw`|(?<environment>\\begin\{(?<name>(?:${ENVIRONMENTS})\*?)\}[^]{1,${LONGEST}}?\\end\{\k<name>\}))[ \t]*(?:\n+|$)`,
);

function token(type, found) {
  if (!found) return undefined;
  const { display, dollars, round, square, environment } = found.groups;
  const isDisplay = display !== undefined || square !== undefined || environment !== undefined;
  return { type, raw: found[0], text: (display ?? dollars ?? round ?? square ?? environment).trim(), isDisplay };
}

const place = (found) => (found < 0 ? undefined : found);

/** Extensions for `marked.use`. `render(tex, isDisplay, raw)`: HTML. */
export function extensions(render) {
  const renderer = ({ text, isDisplay, raw }) => render(text, isDisplay, raw);
  return [
    {
      name: "formulaBlock", level: "block", renderer: (found) => `<p>${renderer(found)}</p>\n`,
      start: (source) => place(source.search(/(?:^|\n) {0,3}(?:\$\$|\\\[|\\begin\{)/)),
      tokenizer: (source) => token("formulaBlock", BLOCK.exec(source)),
    },
    {
      name: "formula", level: "inline", renderer,
      start: (source) => place(source.search(/\$|\\\(|\\\[/)),
      tokenizer: (source) => token("formula", INLINE.exec(source)),
    },
  ];
}
