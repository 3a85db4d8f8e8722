// The live view: a strip of tokens, what happens to them in words, and after the answer a slider over its passes.
import { h } from "../base/dom.js";
import { advance, after } from "./passes.js";

const STEP_MS = 260;
const SHOWN = 500; // tokens: of a longer answer the end is drawn
const TITLES = { diffusion: "Diffusion", "self-spec": "Self-speculation", ar: "One token at a time" };
const LEGENDS = {
  diffusion: [["mask", "masked"], ["sure", "unmasked, unsure to sure"], ["own", "between blocks"]],
  "self-spec": [["draft", "drafted"], ["kept", "accepted"], ["rejected", "rejected"], ["own", "the model’s own"]],
  ar: [["own", "one token per pass"]],
};

/** Spaces as they are, line breaks visible; they break the line where they are final. */
function shown(text, breaks) {
  const parts = text.split("\n");
  const mark = () => h("span", { class: "mark" }, "↵");
  return parts.flatMap((part, i) => (i < parts.length - 1 ? [part, mark(), breaks ? "\n" : ""] : [part]));
}

function piece(kind, text, title, breaks = true) {
  return h("i", { class: kind, title }, ...shown(text, breaks));
}

const rejected = (text) => piece("rejected", text, "rejected", false);

function sure(kind, token, title) {
  const made = piece(`sure ${kind}`, token.text, title);
  // Among sure tokens the differences are small: the scale begins at one half.
  made.style.setProperty("--p", Math.max(0, (token.p - 0.5) * 2).toFixed(3));
  return made;
}

/** The first of an answer's passes is the last of its prompt, which the counters leave out. */
const passName = (n) => (n > 1 ? `pass ${n - 1}` : "prompt");

const percent = (p) => `${(100 * p).toFixed(p > 0.995 ? 1 : 0)} %`;

function finalToken(token, pass) {
  const fresh = token.pass === pass ? " new" : "";
  if (token.p !== undefined) return sure(fresh, token, `${percent(token.p)}, ${passName(token.pass)}`);
  return piece(token.kind + fresh, token.text, passName(token.pass));
}

function pieces(state) {
  const from = Math.max(0, state.tokens.length - SHOWN);
  const made = from ? [h("span", { class: "mark" }, `… ${from} tokens before `)] : [];
  let at = 0;
  const gone = state.rejected.filter((one) => one.at >= from);
  state.tokens.slice(from).forEach((token, k) => {
    const i = from + k;
    while (gone[at]?.at === i) made.push(...gone[at++].texts.map(rejected));
    made.push(finalToken(token, state.pass));
  });
  while (at < gone.length) made.push(...gone[at++].texts.map(rejected));
  for (const text of state.draft ?? []) made.push(piece("draft", text, "drafted"));
  for (let i = state.tokens.length - state.start; i < (state.block?.length ?? 0); ++i) {
    const token = state.block[i];
    const fresh = state.fresh.has(i) ? " new" : "";
    if (!token) made.push(h("i", { class: "mask", title: "masked" }));
    else if (!token.end) made.push(sure(`pending${fresh}`, token, `${percent(token.p)}, ${passName(state.decided[i])}`));
    else {
      made.push(h("i", { class: `end${fresh}`, title: `${percent(token.p)}, ${passName(state.decided[i])}` }, "end"));
      break; // nothing follows an end
    }
  }
  return made;
}

/** What the pass did, in words. */
function words(state, mode) {
  if (mode === "diffusion") {
    const done = state.block?.filter(Boolean).length;
    return state.block ? `block ${state.blocks}: ${done} of ${state.block.length} tokens decided` : `${state.blocks} blocks`;
  }
  if (mode === "self-spec") {
    const last = state.rejected.at(-1);
    const now = state.draft ? `${state.draft.length} drafted` : last?.at === state.tokens.length - 1 ? `${last.texts.length} rejected` : "all accepted";
    if (!state.cycles && state.accepted) return `${state.tokens.length} tokens, ${state.accepted} of them found in the text before`;
    return state.cycles ? `cycle ${state.cycles}: ${now}; so far ${state.accepted} of ${state.drafted} drafts accepted` : "";
  }
  return `${state.tokens.length} tokens`;
}

export class LiveView {
  constructor(mode, passes = []) {
    this.mode = mode;
    this.passes = passes;
    this.state = after(passes, passes.length);
    this.words = h("span");
    this.strip = h("div", { class: "strip", tabindex: "0", role: "group", "aria-label": "Tokens" });
    this.title = h("strong");
    this.legend = h("div", { class: "legend", "aria-hidden": "true" });
    this.replay = h("div", { class: "replay", hidden: true });
    this.element = h(
      "figure", { class: "live", "aria-label": "Live view" },
      h("figcaption", { class: "caption" }, this.title, this.words),
      this.strip, this.legend, this.replay,
    );
    this.name();
  }

  /** What decodes: in mode auto that shows with the first drafts. */
  name() {
    const { blocks, cycles, accepted } = this.state;
    const kind = this.mode !== "auto" ? this.mode : blocks ? "diffusion" : cycles || accepted ? "self-spec" : "ar";
    if (kind === this.kind) return;
    this.kind = kind;
    this.title.textContent = TITLES[kind] ?? kind;
    this.legend.replaceChildren(...(LEGENDS[kind] ?? []).map(([name, text]) => h("span", { class: `l-${name}` }, text)));
  }

  /** A pass arrived; drawn with the next frame. */
  push(pass) {
    this.passes.push(pass);
    advance(this.state, pass);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    this.strip.replaceChildren(...pieces(this.state));
    this.strip.scrollTop = this.strip.scrollHeight;
    this.name();
    this.words.textContent = words(this.state, this.kind);
  }

  /** The answer is there: its passes can be gone through. */
  finish() {
    const last = this.passes.length;
    this.slider = h("input", { type: "range", min: "1", max: `${last}`, value: `${last}`, "aria-label": "Pass", oninput: () => this.show(+this.slider.value) });
    this.button = h("button", { type: "button", onclick: () => this.toggle() }, "Replay");
    this.count = h("span", { class: "count" });
    this.replay.replaceChildren(this.button, this.slider, this.count);
    this.replay.hidden = last < 2;
    this.show(last);
  }

  show(n) {
    this.state = after(this.passes, n);
    this.slider.value = `${n}`;
    this.count.textContent = n > 1 ? `${passName(n)} of ${this.passes.length - 1}` : passName(n);
    this.draw();
  }

  toggle() {
    if (this.timer) return this.pause();
    let n = +this.slider.value < this.passes.length ? +this.slider.value : 0;
    this.button.textContent = "Pause";
    this.timer = setInterval(() => {
      n += 1;
      this.show(n);
      if (n >= this.passes.length || !this.element.isConnected) this.pause();
    }, STEP_MS);
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.button.textContent = "Replay";
  }
}
