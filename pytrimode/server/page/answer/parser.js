// Markdown to HTML off the page's thread: one text at a time, each with a time in which it must be done.

const START_MS = 20_000;
const LONGEST = 500_000; // characters

// Where a browser asks which scripts may be loaded from an address that is text: this one.
const address = new URL("./markdown_worker.js", import.meta.url).href;
const policy = window.trustedTypes?.createPolicy("pytrimode", {
  createScriptURL: (asked) => {
    if (asked !== address) throw new TypeError("not a script of this page");
    return asked;
  },
});

let worker = null; // a promise of one that is ready
let last = Promise.resolve(); // what was asked before is done

function start() {
  return new Promise((resolve, reject) => {
    const made = new Worker(policy ? policy.createScriptURL(address) : address, { type: "module" });
    const timer = setTimeout(() => reject(new Error("the worker did not start")), START_MS);
    made.onerror = () => reject(new Error("the worker did not start"));
    made.onmessage = () => {
      clearTimeout(timer);
      resolve(made);
    };
  });
}

async function parse(text, milliseconds) {
  const ready = await (worker ??= start());
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      ready.terminate();
      worker = null;
      resolve(null);
    }, milliseconds);
    ready.onmessage = ({ data }) => {
      clearTimeout(timer);
      resolve(data);
    };
    ready.postMessage(text);
  });
}

/** HTML that must still be sanitized; null for a text that takes too long, or that a browser would take long to show. */
export function parseMarkdown(text, milliseconds) {
  if (text.length > LONGEST) return Promise.resolve(null);
  return (last = last.then(() => parse(text, milliseconds)).catch(() => null));
}
