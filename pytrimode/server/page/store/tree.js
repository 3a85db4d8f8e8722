// A conversation as a tree: an edited question or another answer is a branch beside the first, and nothing is overwritten.
//
// conversation.messages is a list of messages, each with `parent`, its place in that list (null: the first one). `leaf` is
// the place of the last message that is shown. Nothing is taken out of the list.

/** The messages up to the place `end`, from the first on: those that are shown. */
export function path(conversation, end = conversation.leaf) {
  const found = [];
  for (let at = end; at !== null; at = conversation.messages[at].parent) found.push(conversation.messages[at]);
  return found.reverse();
}

const placeOf = (conversation, message) => (message ? conversation.messages.indexOf(message) : null);

/** Add a message behind another (null: as the first) and show it. */
export function add(conversation, parent, message) {
  message.parent = placeOf(conversation, parent);
  conversation.leaf = conversation.messages.push(message) - 1;
  return message;
}

export function parentOf(conversation, message) {
  return message.parent === null ? null : conversation.messages[message.parent];
}

/** The branches at a message: it and what stands in its place, the oldest first. */
export function branches(conversation, message) {
  return conversation.messages.filter((other) => other.parent === message.parent);
}

/** Show a message, and behind it what was written last. */
export function choose(conversation, message) {
  let at = placeOf(conversation, message);
  for (;;) {
    conversation.leaf = at;
    const next = conversation.messages.findLastIndex((other) => other.parent === at);
    if (next < 0) return;
    at = next;
  }
}

/** Show nothing behind a message. */
export function endAt(conversation, message) {
  conversation.leaf = placeOf(conversation, message);
}

/** A tree of messages that follow one another. */
export function inLine(messages) {
  messages.forEach((message, i) => (message.parent = i ? i - 1 : null));
  return { messages, leaf: messages.length ? messages.length - 1 : null };
}

/** Whether what a file or an older version says can be walked through. */
export function isTree({ messages, leaf }) {
  const isPlace = (place, end) => place === null || (Number.isInteger(place) && place >= 0 && place < end);
  return isPlace(leaf, messages.length) && messages.every(({ parent }, i) => isPlace(parent, i));
}
