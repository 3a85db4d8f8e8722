// All conversations, the newest first, as the browser keeps them.
import { put, readAll, readOne, remove } from "./database.js";
import { read } from "./settings.js";
import { inLine, isTree, path } from "./tree.js";

const LEGACY = "pytrimode.conversations"; // in localStorage, before there were branches
const STASH = "pytrimode.unfinished"; // in localStorage, which is written at once
const MOST_PASSES = 600; // of an answer that are kept

/**
 * { id, title?, pinned?, changed, messages, leaf }; see tree.js. Messages: { role, content, parent, images?, files? } of the
 * user, and { role, content, parent, mode, reasoning?, timings?, passes?, cut?, stopped?, error?, race? } of the model.
 */
export const conversations = [];

const others = new BroadcastChannel("pytrimode"); // the page's other tabs

const isMessage = (one) => ["user", "assistant"].includes(one?.role) && typeof one.content === "string";

/** A conversation made of what a file or the storage holds; null where it is none. */
export function restored(one) {
  if (typeof one?.id !== "string" || !Array.isArray(one.messages) || !one.messages.every(isMessage)) return null;
  const isLine = one.leaf === undefined;
  if (!isLine && !isTree(one)) return null;
  // The page was closed while it was written.
  for (const message of one.messages.filter(({ making }) => making)) {
    delete message.making;
    message.stopped = true;
  }
  return { ...one, changed: Number(one.changed) || 0, ...(isLine ? inLine(one.messages) : {}) };
}

/** Keep what an answer has so far while the page is closed: the database may not get to it. */
export function stash({ id, messages }) {
  const parts = messages.flatMap(({ making, content, reasoning }, place) => (making ? { place, content, reasoning } : []));
  if (!parts.length) return;
  try {
    localStorage.setItem(STASH, JSON.stringify({ id, parts }));
  } catch {
    // No room: what was saved last is kept.
  }
}

function unstash(found) {
  const { id, parts } = read(STASH, {});
  const one = found.find((other) => other.id === id);
  for (const { place, content, reasoning } of one ? parts : []) Object.assign(one.messages[place] ?? {}, { content, reasoning });
  localStorage.removeItem(STASH);
}

/** Read them. False where the browser keeps nothing. */
export async function loadConversations() {
  let found = [];
  let works = true;
  try {
    found = await readAll();
    for (const one of read(LEGACY, []).reverse()) {
      const made = restored({ ...one, changed: Date.now() });
      if (!made || found.some(({ id }) => id === made.id)) continue;
      await put(made);
      found.push(made);
    }
    localStorage.removeItem(LEGACY);
    unstash(found);
  } catch {
    works = false;
  }
  const whole = found.map(restored).filter(Boolean);
  conversations.splice(0, conversations.length, ...whole.sort((a, b) => b.changed - a.changed));
  return works;
}

function stored(message) {
  const { passes, ...others } = message;
  return passes && passes.length <= MOST_PASSES ? message : others;
}

/**
 * Keep a conversation, and `tell` other tabs. False where the browser has no room left, or keeps nothing.
 * `isNew`: it comes first in the list when the page is opened again.
 */
export async function saveConversation(one, { isNew = true, tell = true } = {}) {
  if (!one.messages.length) return true;
  if (isNew) one.changed = Date.now();
  try {
    await put({ ...one, messages: one.messages.map(stored) });
    if (tell) others.postMessage(one.id);
    return true;
  } catch {
    return false;
  }
}

export const newId = () => `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;

export function newConversation() {
  const made = { id: newId(), changed: Date.now(), messages: [], leaf: null };
  conversations.unshift(made);
  return made;
}

/** Take a conversation out. Returns what puts it back. */
export function removeConversation(one) {
  const place = conversations.indexOf(one);
  conversations.splice(place, 1);
  remove(one.id).then(() => others.postMessage(one.id)).catch(() => {});
  return () => {
    conversations.splice(place, 0, one);
    return saveConversation(one, { isNew: false });
  };
}

export function titleOf(one) {
  if (one.title) return one.title;
  const first = one.messages.find((message) => message.role === "user");
  return first?.content.trim().split("\n")[0].slice(0, 60) || first?.images?.[0]?.name || first?.files?.[0]?.name || "New conversation";
}

/** Those in which all words of a text are found, in the title or a message; pinned ones first. */
export function searched(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (one) => {
    const all = [titleOf(one), ...one.messages.map(({ content }) => content)].join("\n").toLowerCase();
    return words.every((word) => all.includes(word));
  };
  return conversations.filter((one) => !words.length || has(one)).sort((a, b) => Boolean(b.pinned) - Boolean(a.pinned));
}

/** `listener(conversation)` is called when another tab has changed, made or deleted one; it is here then as it is there. */
export function onElsewhere(listener) {
  others.onmessage = async ({ data: id }) => {
    const found = await readOne(id).catch(() => null);
    const one = conversations.find((other) => other.id === id);
    if (one?.messages.some(({ making }) => making)) return; // it is being written here
    const now = found && restored(found);
    if (one && now) Object.assign(one, { title: undefined, pinned: undefined }, now);
    else if (one) conversations.splice(conversations.indexOf(one), 1);
    else if (now) conversations.unshift(now);
    listener(one ?? now);
  };
}

/** Tokens of the context that a conversation takes, as the server counted them at its last answer; null: not known. */
export function tokensOf(one) {
  const timings = path(one).findLast((message) => message.timings)?.timings;
  return timings ? timings.cache_n + timings.prompt_n + timings.predicted_n : null;
}
