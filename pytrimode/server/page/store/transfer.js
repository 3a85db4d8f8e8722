// Conversations to files and back.
import { conversations, newId, restored, saveConversation, titleOf } from "./conversations.js";
import { path } from "./tree.js";

const FORMAT = "pytrimode.conversations";
const LARGEST = 256 << 20; // bytes of a file

function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

const NUMBERS = ["cache_n", "prompt_n", "predicted_n", "predicted_ms", "predicted_per_second", "forward_passes", "tokens_per_forward", "draft_n", "draft_n_accepted"];
const TEXTS = ["role", "content", "reasoning", "mode", "error"];

/** A message of a file, which may be anything: what the page knows of it, where it is what it should be. */
function cleaned(given) {
  const made = { parent: given?.parent };
  for (const name of TEXTS) if (typeof given?.[name] === "string") made[name] = given[name];
  for (const name of ["cut", "stopped"]) if (given?.[name] === true) made[name] = true;
  const list = (value, isGood) => (Array.isArray(value) ? value.filter((one) => typeof one?.name === "string" && isGood(one)) : []);
  const images = list(given?.images, ({ data }) => /^data:image\/[a-z]+;base64,/.test(data));
  const files = list(given?.files, ({ text }) => typeof text === "string");
  if (images.length) made.images = images.map(({ name, data }) => ({ name, data }));
  if (files.length) made.files = files.map(({ name, text }) => ({ name, text }));
  if (NUMBERS.every((name) => Number.isFinite(given?.timings?.[name]))) {
    made.timings = Object.fromEntries(NUMBERS.map((name) => [name, given.timings[name]]));
  }
  return made;
}

function ofFile(given) {
  if (!Array.isArray(given?.messages)) return null;
  const { id, title, pinned, changed, leaf } = given;
  return restored({
    id: typeof id === "string" ? id : newId(), changed, leaf, ...(typeof title === "string" ? { title } : {}), ...(pinned === true ? { pinned } : {}),
    messages: given.messages.map(cleaned),
  });
}

const withoutPasses = (key, value) => (key === "passes" ? undefined : value);
const fileName = (title) => title.replace(/[^\p{L}\p{N}._ -]+/gu, " ").trim().slice(0, 60) || "conversation";

/** All of them, or one, with branches and pictures, as JSON that `importFile` reads. */
export function exportJson(some = conversations) {
  const list = some.filter((one) => one.messages.length);
  const text = JSON.stringify({ format: FORMAT, version: 1, conversations: list }, withoutPasses, 1);
  download(list.length === 1 ? `${fileName(titleOf(list[0]))}.json` : "conversations.json", text, "application/json");
}

/** What is shown of a conversation, to be read. */
export function exportMarkdown(one) {
  const parts = path(one).map(({ role, content, images, files }) => {
    const attached = [...(images ?? []), ...(files ?? [])].map(({ name }) => `*${name}*\n\n`).join("");
    return `## ${role === "user" ? "You" : "Answer"}\n\n${attached}${content.trim()}\n`;
  });
  download(`${fileName(titleOf(one))}.md`, `# ${titleOf(one)}\n\n${parts.join("\n")}`, "text/markdown");
}

/** Add the conversations of a file. Returns how many; throws Error with what is wrong with it. */
export async function importFile(file) {
  if (file.size > LARGEST) throw new Error(`${file.name} has ${file.size} bytes: at most ${LARGEST}`);
  let read;
  try {
    read = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is not JSON: export makes such files`);
  }
  if (read?.format !== FORMAT || !Array.isArray(read.conversations)) {
    throw new Error(`${file.name} has no conversations of this page: "format" must be "${FORMAT}"`);
  }
  const found = read.conversations.map(ofFile);
  const wrong = found.indexOf(null);
  if (wrong >= 0) throw new Error(`${file.name}: conversation ${wrong + 1} is damaged; nothing was imported`);
  for (const one of found.reverse()) {
    if (conversations.some(({ id }) => id === one.id)) one.id = newId();
    conversations.unshift(one);
    if (!(await saveConversation(one))) throw new Error("The browser has no room left: not all is kept");
  }
  return found.length;
}
