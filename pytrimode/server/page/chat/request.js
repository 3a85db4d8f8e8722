// From a conversation to the body of a request.
import { settings } from "../store/settings.js";
import { path } from "../store/tree.js";

/** A text file as part of a question: its name, and its text between fences that it does not have itself. */
function quoted({ name, text }) {
  const runs = text.match(/`{3,}/g) ?? [];
  const fence = "`".repeat(Math.max(3, ...runs.map((run) => run.length + 1)));
  const language = /\.(\w{1,12})$/.exec(name)?.[1] ?? "";
  return `${name}:\n${fence}${language}\n${text.replace(/\n?$/, "\n")}${fence}\n\n`;
}

function contentOf({ content, images, files = [] }) {
  const text = files.map(quoted).join("") + content;
  if (!images?.length) return text;
  const parts = images.map(({ data }) => ({ type: "image_url", image_url: { url: data } }));
  return text ? [...parts, { type: "text", text }] : parts;
}

function turn(message) {
  if (message.role === "user") return { role: "user", content: contentOf(message) };
  return { role: "assistant", content: message.content };
}

/** The body that asks for an answer, or for more of it where there is some: then the model goes on where it ends. */
export function requestFor(conversation, answer) {
  const before = path(conversation, answer.parent).filter((message) => message.content || !message.error);
  const messages = before.map(turn);
  if (settings.system) messages.unshift({ role: "system", content: settings.system });
  const body = { messages, ...settings.options, mode: answer.mode, live: settings.live || Boolean(answer.race) };
  if (settings.thinking) body.chat_template_kwargs = { enable_thinking: true };
  if (answer.content) {
    const { content, reasoning } = answer;
    messages.push({ role: "assistant", content, ...(reasoning ? { reasoning_content: reasoning } : {}) });
    body.continue_final_message = true;
  }
  return body;
}
