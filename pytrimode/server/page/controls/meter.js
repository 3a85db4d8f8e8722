// How much of the context the conversation takes.
import { $ } from "../base/dom.js";
import { tokensOf } from "../store/conversations.js";

/** `context`: tokens of the server's context. */
export function showContext(conversation, context) {
  const used = context ? tokensOf(conversation) : null;
  $("context").hidden = used === null;
  if (used === null) return;
  const share = Math.min(1, used / context);
  $("context-bar").value = share;
  $("context-bar").title = `${used} of ${context} tokens of the context`;
  $("context-text").textContent = `${used.toLocaleString("en")} / ${context.toLocaleString("en")}`;
  $("context").classList.toggle("full", share > 0.9);
}
