// Conversations and settings in the browser's own storage; nothing leaves it but requests to the server.

const CONVERSATIONS = "pytrimode.conversations";
const SETTINGS = "pytrimode.settings";
const KEY = "pytrimode.key"; // the API key, until this tab is closed

function read(key, otherwise, storage = "localStorage") {
  try {
    return JSON.parse(window[storage].getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export const settings = {
  mode: null, live: true, theme: "auto", system: "", thinking: false, key: "", keepKey: false, ...read(SETTINGS, {}),
};
settings.key = read(KEY, settings.key, "sessionStorage");

/** The key stays with this tab, unless the user wants it to stay with the browser. */
export function saveSettings() {
  const { key, ...others } = settings;
  try {
    sessionStorage.setItem(KEY, JSON.stringify(key));
    localStorage.setItem(SETTINGS, JSON.stringify(settings.keepKey ? settings : others));
  } catch {
    // A full or forbidden storage: the settings hold until the page is closed.
  }
}

/** Newest first: { id, messages: [{ role, content, reasoning?, error?, stopped?, mode?, timings?, passes? }] }. */
export const conversations = read(CONVERSATIONS, []).filter((one) => one?.id && Array.isArray(one.messages));

const MOST_PASSES = 600; // of an answer that are kept

const kept = (key, value) => (key === "passes" && value.length > MOST_PASSES ? undefined : value);

/** False when the browser has no room left. The recorded passes of older answers go first. */
export function saveConversations() {
  const recorded = conversations.toReversed().flatMap((one) => one.messages.filter((message) => message.passes));
  for (;;) {
    try {
      localStorage.setItem(CONVERSATIONS, JSON.stringify(conversations.filter((one) => one.messages.length), kept));
      return true;
    } catch {
      const oldest = recorded.shift();
      if (!oldest) return false;
      delete oldest.passes;
    }
  }
}

export function newConversation() {
  const made = { id: `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`, messages: [] };
  conversations.unshift(made);
  return made;
}

export function removeConversation(one) {
  conversations.splice(conversations.indexOf(one), 1);
  saveConversations();
}

export function titleOf(one) {
  const first = one.messages.find((message) => message.role === "user")?.content ?? "";
  return first.trim().split("\n")[0].slice(0, 60) || "New conversation";
}
