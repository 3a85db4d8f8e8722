// Two modes on one question, side by side.
import { h } from "../base/dom.js";

export const MODE_NAMES = { auto: "Auto", "self-spec": "Self-spec", diffusion: "Diffusion", ar: "AR" };

/** One side: its mode, its figures as they are now, a bar as long as it is fast, and the answer. */
class Lane {
  constructor(view, keep) {
    this.message = view.message;
    this.passes = this.tokens = 0;
    this.began = null;
    this.figures = h("p", { class: "figures" }, "waits for its turn");
    this.bar = h("div", { class: "speed" });
    this.keep = h("button", { class: "plain", type: "button", hidden: true, onclick: () => keep(view.message) }, "Go on with this one");
    const name = MODE_NAMES[view.message.mode];
    const head = h("div", { class: "lane-head" }, h("h3", {}, name), this.figures, h("div", { class: "track" }, this.bar));
    this.element = h("section", { class: "lane", "aria-label": name }, head, view.element, this.keep);
  }

  pass({ tokens }) {
    this.began ??= performance.now();
    this.passes += 1;
    this.tokens += tokens?.length ?? 0;
    const seconds = (performance.now() - this.began) / 1000;
    this.tell(seconds > 0.05 ? this.tokens / seconds : null, this.tokens, this.passes);
  }

  tell(speed, tokens, passes) {
    const parts = [speed === null ? "" : `${speed.toFixed(1)} tokens/s`, `${tokens} tokens`, `${passes} passes`];
    this.figures.textContent = parts.filter(Boolean).join(" · ");
  }

  finish() {
    const t = this.message.timings;
    if (t) this.tell(t.predicted_per_second, t.predicted_n, t.forward_passes);
    else this.figures.textContent = this.message.error ? "failed" : "";
    this.isDone = true;
    this.keep.hidden = !this.message.content;
  }
}

function comparison([a, b]) {
  const [fast, slow] = a.timings.predicted_per_second >= b.timings.predicted_per_second ? [a, b] : [b, a];
  const times = fast.timings.predicted_per_second / slow.timings.predicted_per_second;
  const passes = `${fast.timings.forward_passes} passes for ${slow.timings.forward_passes}`;
  const same = a.content === b.content ? "Both wrote the same text." : "The texts differ.";
  return `${MODE_NAMES[fast.mode]} is ${times.toFixed(2)} times as fast as ${MODE_NAMES[slow.mode]}, with ${passes}. ${same}`;
}

export class RaceView {
  /** `views`: of the two answers; `keep(message)`: the conversation goes on with it; `again()`: another race. */
  constructor(views, { keep, again }) {
    this.lanes = views.map((view) => new Lane(view, keep));
    this.result = h("p", { class: "result" });
    this.again = h("button", { type: "button", hidden: true, onclick: again }, "Race again");
    this.element = h(
      "section", { class: "race", "aria-label": "Race" }, h("div", { class: "lanes" }, ...this.lanes.map(({ element }) => element)),
      h("div", { class: "actions" }, this.result, this.again),
    );
  }

  laneOf(message) {
    return this.lanes.find((lane) => lane.message === message);
  }

  /** A pass of one of them. */
  pass(message, pass) {
    this.laneOf(message).pass(pass);
  }

  /** One of them is complete. */
  finish(message) {
    this.laneOf(message).finish();
    const messages = this.lanes.map((lane) => lane.message);
    const fastest = Math.max(...messages.map(({ timings }) => timings?.predicted_per_second ?? 0), 1e-9);
    for (const { bar, message: one } of this.lanes) {
      bar.style.width = `${(100 * (one.timings?.predicted_per_second ?? 0)) / fastest}%`;
    }
    if (!this.lanes.every(({ isDone }) => isDone)) return;
    this.again.hidden = false;
    if (messages.every(({ timings }) => timings)) this.result.textContent = comparison(messages);
  }
}
