// Inputs for fields of requests, made of what the server's schema says of them: type, range and help.
import { h } from "../base/dom.js";

/** The fields that have names of their own; all others stand under "More" by their names in the API. */
export const USUAL = {
  temperature: ["Temperature", { min: 0, max: 2, step: 0.05 }],
  top_p: ["Top p", { min: 0, max: 1, step: 0.01 }],
  top_k: ["Top k", { min: 0, step: 1 }],
  min_p: ["Min p", { min: 0, max: 1, step: 0.01 }],
  max_tokens: ["Most tokens", { min: 1, step: 1 }],
  seed: ["Seed", { step: 1 }],
  block_length: ["Block length", { min: 1, step: 1 }],
  threshold: ["Threshold (diffusion)", { min: 0, max: 1, step: 0.01 }],
  max_thinking_tokens: ["Most tokens of reasoning", { min: 0, step: 1 }],
};
const ELSEWHERE = ["mode", "lora"]; // the mode is chosen for each question; adapters are a list of objects

const placeholderOf = (known) => (known === null || known === undefined ? "default" : String(known));
const escapes = { "\\n": "\n", "\\t": "\t", "\\\\": "\\" };
const unescaped = (line) => line.replace(/\\[nt\\]/g, (found) => escapes[found]);
const escaped = (text) => text.replace(/[\n\t\\]/g, (c) => ({ "\n": "\\n", "\t": "\\t", "\\": "\\\\" })[c]);

/** Ways to write a value: { make(schema, known), read(text), write(value) }. */
const KINDS = {
  number: {
    make: (limits, known) => h("input", { type: "number", inputmode: "decimal", step: "any", placeholder: placeholderOf(known), ...limits }),
    read: Number, write: String,
  },
  choice: {
    make: ({ choices }, known) => h("select", {}, h("option", { value: "" }, `default (${known})`), ...choices.map((name) => h("option", { value: name }, name))),
    read: (text) => ({ true: true, false: false })[text] ?? text, write: String,
  },
  text: { make: () => h("textarea", { rows: "2", placeholder: "none", spellcheck: "false" }), read: (text) => text, write: String },
  lines: {
    make: () => h("textarea", { rows: "2", placeholder: "one a line, \\n for a new line", spellcheck: "false" }),
    read: (text) => text.split("\n").filter(Boolean).map(unescaped), write: (list) => [list].flat().map(escaped).join("\n"),
  },
  integers: {
    make: () => h("input", { placeholder: "ids, with commas", pattern: "[0-9, ]*", inputmode: "numeric" }),
    read: (text) => text.split(/[, ]+/).filter(Boolean).map(Number), write: (list) => list.join(", "),
  },
  json: {
    make: () => h("textarea", { rows: "2", placeholder: "{}", spellcheck: "false" }), read: JSON.parse, write: JSON.stringify,
  },
};

function kindOf(name, { anyOf = [], examples }) {
  const types = new Set(anyOf.map(({ type }) => type));
  const items = anyOf.find(({ type }) => type === "array")?.items?.type;
  if (types.has("boolean")) return ["choice", { choices: ["true", "false", ...anyOf.flatMap((one) => one.const ?? [])] }];
  if (types.has("integer")) return ["number", { step: 1 }];
  if (types.has("number")) return ["number", {}];
  if (items) return [items === "string" ? "lines" : "integers", {}];
  if (types.has("object")) return ["json", {}];
  return examples ? ["choice", { choices: examples }] : ["text", {}];
}

/** A field { name, element, read(), write(value) }; `read` gives undefined for an empty one, and throws Error. */
function field(name, label, help, [kind, about], known) {
  const { make, read, write } = KINDS[kind];
  const input = make(about, known);
  input.name = name;
  const isWide = ["text", "lines", "json"].includes(kind);
  return {
    name, element: h("label", { class: `field${isWide ? " all" : ""}`, title: help }, label, input),
    read: () => {
      if (!input.value.trim()) return undefined;
      try {
        return read(input.value);
      } catch {
        throw new Error(`${name}: not valid JSON`);
      }
    },
    write: (value) => (input.value = value === undefined || value === null ? "" : write(value)),
  };
}

/** The usual fields. `defaults`: of the server, by name. */
export function usualFields(defaults) {
  return Object.entries(USUAL).map(([name, [label, limits]]) => field(name, label, undefined, ["number", limits], defaults[name]));
}

/** All others that the server's schema describes. */
export function moreFields(schema, defaults) {
  const found = Object.entries(schema).filter(([name, { description }]) => description && !(name in USUAL) && !ELSEWHERE.includes(name));
  return found.map(([name, about]) => field(name, name, about.description, kindOf(name, about), defaults[name] ?? "none"));
}
