// Messages as elements.
import { copy, h } from "./dom.js";
import { LiveView } from "./live.js";
import { renderMarkdown } from "./markdown.js";

/** Speed of an answer in a line, from the server's `timings`. */
export function statsLine(message) {
  const t = message.timings;
  if (!t) return "";
  const parts = [`${t.predicted_per_second.toFixed(1)} tokens/s`, `${t.tokens_per_forward.toFixed(2)} per pass`];
  if (t.draft_n) parts.push(`${Math.round((100 * t.draft_n_accepted) / t.draft_n)} % accepted`);
  parts.push(`${t.predicted_n} tokens, ${t.forward_passes} passes`);
  return [message.mode, ...parts].filter(Boolean).join(" · ");
}

export function userMessage(message, { onEdit }) {
  const text = h("div", { class: "text" }, message.content);
  const edit = h("button", { type: "button", onclick: () => editor(element, message, onEdit) }, "Edit");
  const element = h("article", { class: "message user" }, h("h2", { class: "hidden" }, "You"), text, h("div", { class: "actions" }, edit));
  return element;
}

function editor(element, message, onEdit) {
  const before = [...element.children];
  const area = h("textarea", { "aria-label": "Your message" });
  area.value = message.content;
  const form = h(
    "form", { class: "editor", onsubmit: (event) => (event.preventDefault(), area.value.trim() && onEdit(area.value)) }, area,
    h("div", { class: "end" }, h("button", { class: "plain", type: "button", onclick: () => element.replaceChildren(...before) }, "Cancel"),
      h("button", { class: "primary", type: "submit" }, "Send again")),
  );
  element.replaceChildren(form);
  area.focus();
}

/** An answer; `update` shows what was added to its message, `draw` and `finish` that nothing more comes. */
export class AnswerView {
  constructor(message, { onRegenerate }) {
    this.message = message;
    this.onRegenerate = onRegenerate;
    this.reasoningText = h("div");
    this.reasoning = h("details", { class: "reasoning", hidden: true }, h("summary", {}, "Reasoning"), this.reasoningText);
    this.prose = h("div", { class: "prose" });
    this.below = h("div");
    this.actions = h("div", { class: "actions" });
    this.element = h("article", { class: "message assistant" }, h("h2", { class: "hidden" }, "Answer"), this.reasoning, this.prose, this.below, this.actions);
  }

  update() {
    this.stale = true;
    this.timer ??= setTimeout(async () => {
      this.stale = false;
      const begin = performance.now();
      await this.draw({ last: false });
      // A long answer takes long to render: most of the time is left to everything else.
      this.pause = Math.max(16, 5 * (performance.now() - begin));
      this.timer = null;
      if (this.stale && !this.isLast) this.update();
    }, this.pause ?? 0);
  }

  /** `last`: no more will come. */
  async draw({ last }) {
    this.isLast ||= last;
    if (this.isLast && !last) return;
    this.reasoning.hidden = !this.message.reasoning;
    this.reasoningText.textContent = this.message.reasoning ?? "";
    const rendered = await renderMarkdown(this.prose, this.message.content, { last });
    if (last) this.isPlain = !rendered;
  }

  /** A pass of the live view. */
  pass(pass) {
    if (!this.live) {
      this.live = new LiveView(this.message.mode);
      this.below.append(this.live.element);
    }
    this.live.push(pass);
  }

  /** After the last `draw`. `open`: the live view stays open. */
  finish({ open }) {
    const { message } = this;
    if (this.live) message.passes = this.live.passes;
    this.live?.element.remove();
    const notes = [];
    if (this.isPlain) notes.push(h("p", { class: "note" }, "Shown as it was written: its Markdown would take too long."));
    if (message.stopped) notes.push(h("p", { class: "note" }, "Stopped."));
    if (message.cut) notes.push(h("p", { class: "note" }, "Cut off: the most tokens are reached."));
    if (message.error) notes.push(h("p", { class: "error", role: "alert" }, message.error));
    this.below.replaceChildren(...notes);
    const buttons = [];
    const copyButton = h("button", { type: "button", onclick: () => copy(message.content, copyButton) }, "Copy");
    if (message.content) buttons.push(copyButton);
    buttons.push(h("button", { type: "button", onclick: this.onRegenerate }, message.error ? "Try again" : "Regenerate"));
    if (message.passes?.length > 1) {
      const toggle = h("button", { type: "button", "aria-expanded": "false", onclick: () => this.toggleLive(toggle) }, "Passes");
      buttons.push(toggle);
      if (open) this.toggleLive(toggle);
    }
    this.actions.replaceChildren(...buttons, h("span", { class: "stats" }, statsLine(message)));
  }

  toggleLive(button) {
    const open = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "Hide passes" : "Passes";
    if (!open) return this.live.element.remove();
    this.live = new LiveView(this.message.mode, this.message.passes);
    this.below.append(this.live.element);
    this.live.finish();
  }
}

export function welcome(modelName, ask) {
  const questions = ["Write a Python function that reverses a list", "Sort these numbers: 74, 31, 95, 12", "What can you do?"];
  return h(
    "section", { class: "welcome" }, h("h2", {}, modelName),
    h("p", {}, "Diffusion fills in whole blocks, self-speculation drafts and verifies, autoregression writes token by token. Switch below, and watch."),
    h("div", { class: "quicks" }, ...questions.map((text) => h("button", { class: "quick", type: "button", onclick: () => ask(text) }, text))),
  );
}
