// Messages as elements.
import { copy, h } from "../base/dom.js";
import { LiveView } from "./live.js";
import { renderMarkdown } from "./markdown.js";
import { attachments } from "./pictures.js";
import { statsLine } from "./stats.js";

/** "‹ 1/2 ›" where there is more than one version of a message. `versions`: { all, choose(message) }. */
function versionSwitch(message, { all, choose }) {
  if (all.length < 2) return null;
  const at = all.indexOf(message);
  const step = (by, label, sign) =>
    h("button", { type: "button", "aria-label": label, disabled: !all[at + by], onclick: () => choose(all[at + by]) }, sign);
  return h("span", { class: "versions" }, step(-1, "Previous version", "‹"), h("span", {}, `${at + 1}/${all.length}`), step(1, "Next version", "›"));
}

export function userMessage(message, { edit, versions }) {
  const text = message.content ? h("div", { class: "text", dir: "auto" }, message.content) : null;
  const button = h("button", { type: "button", onclick: () => editor(element, message, edit) }, "Edit");
  const actions = h("div", { class: "actions" }, versionSwitch(message, versions), button);
  const element = h("article", { class: "message user" }, h("h2", { class: "hidden" }, "You"), attachments(message), text, actions);
  return element;
}

function editor(element, message, edit) {
  const before = [...element.children];
  const area = h("textarea", { "aria-label": "Your message", dir: "auto" });
  area.value = message.content;
  const isEmpty = () => !area.value.trim() && !message.images && !message.files;
  const cancel = () => {
    element.replaceChildren(...before);
    element.querySelector(".actions > button").focus();
  };
  const form = h(
    "form", { class: "editor", onsubmit: (event) => (event.preventDefault(), isEmpty() || edit(message, area.value)) }, area,
    h("div", { class: "end" }, h("button", { class: "plain", type: "button", onclick: cancel }, "Cancel"),
      h("button", { class: "primary", type: "submit" }, "Send again")),
  );
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") (event.stopPropagation(), cancel());
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) (event.preventDefault(), form.requestSubmit());
  });
  element.replaceChildren(form);
  area.focus();
}

/** An answer; `update` shows what was added to its message, `draw` and `finish` that nothing more comes. */
export class AnswerView {
  /** `actions`: { regenerate, resume, versions }; null where that cannot be. */
  constructor(message, actions) {
    this.message = message;
    this.does = actions;
    this.reasoningText = h("div", { dir: "auto" });
    this.reasoning = h("details", { class: "reasoning", hidden: true }, h("summary", {}, "Reasoning"), this.reasoningText);
    this.prose = h("div", { class: "prose" });
    this.waiting = h("p", { class: "waiting", role: "status", hidden: true });
    this.below = h("div");
    this.actions = h("div", { class: "actions" });
    this.element = h("article", { class: "message assistant" }, h("h2", { class: "hidden" }, "Answer"), this.reasoning, this.prose, this.waiting, this.below, this.actions);
  }

  /** What the answer waits for; "": for nothing. */
  wait(text) {
    this.waiting.textContent = text;
    this.waiting.hidden = !text;
  }

  /** It begins, or goes on: what was said of its end is taken away. */
  begin() {
    this.isLast = false;
    this.live?.element.remove();
    this.live = null;
    this.below.replaceChildren();
    this.actions.replaceChildren();
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
      this.live = new LiveView(this.message.mode, this.message.passes ?? []);
      this.below.append(this.live.element);
    }
    this.live.push(pass);
  }

  /** After the last `draw`. `open`: the live view stays open. */
  finish({ open }) {
    const { message } = this;
    if (this.live) message.passes = this.live.passes;
    this.live?.element.remove();
    this.wait("");
    this.below.replaceChildren(...this.notes());
    const buttons = [];
    const button = (text, onclick) => h("button", { type: "button", onclick }, text);
    const copyButton = button("Copy", () => copy(message.content, copyButton));
    if (message.content) buttons.push(copyButton);
    if (this.does.resume) buttons.push(button("Continue", this.does.resume));
    const again = message.error && !message.content ? "Try again" : "Regenerate";
    if (this.does.regenerate) buttons.push(button(again, this.does.regenerate));
    if (message.passes?.length > 1) {
      const toggle = h("button", { type: "button", "aria-expanded": "false", onclick: () => this.toggleLive(toggle) }, "Passes");
      buttons.push(toggle);
      if (open) this.toggleLive(toggle);
    }
    const switcher = versionSwitch(message, this.does.versions);
    this.actions.replaceChildren(...[switcher, ...buttons, h("span", { class: "stats" }, statsLine(message))].filter(Boolean));
  }

  notes() {
    const { message } = this;
    const note = (text) => h("p", { class: "note" }, text);
    const notes = [];
    if (this.isPlain) notes.push(note("Shown as it was written: its Markdown would take too long."));
    if (message.stopped) notes.push(note("Stopped."));
    if (message.full) notes.push(note("Cut off: the context is full."));
    else if (message.cut) notes.push(note("Cut off: the most tokens are reached."));
    if (message.error) notes.push(h("p", { class: "error", role: "alert" }, message.error));
    return notes;
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

/** What is shown of a new conversation. `prompts`: examples of what the model can do. */
export function welcome(modelName, prompts, ask) {
  return h(
    "section", { class: "welcome" }, h("h2", {}, modelName),
    h("p", {}, "Diffusion fills in whole blocks, self-speculation drafts and verifies, autoregression writes token by token. Switch below, and watch."),
    h("div", { class: "quicks" }, ...prompts.map((text) => h("button", { class: "quick", type: "button", dir: "auto", onclick: () => ask(text) }, text))),
  );
}
