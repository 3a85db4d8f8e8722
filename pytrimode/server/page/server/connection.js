// Whether the server is there, and what it serves. While it is not there it is asked again and again.
import { ApiError, props } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5_000;

/** `state`: "loading", "ready", "away" or "locked" (it asks for a key); `props`: what it told when it was ready. */
export const server = { state: "loading", props: null };

const listeners = new Set();
let asking = null; // a promise of the question that is under way
let again = null;
let waitMs = FIRST_WAIT_MS;

/** Called with each change of `server`. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function become(state) {
  server.state = state;
  for (const listener of [...listeners]) listener(server);
}

async function ask() {
  try {
    server.props = await props();
    waitMs = FIRST_WAIT_MS;
    become("ready");
  } catch (error) {
    if (error.status === 401) return become("locked");
    const isLoading = error instanceof ApiError && error.status === 503;
    again = setTimeout(connect, isLoading ? FIRST_WAIT_MS : waitMs);
    waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 1.5);
    become(isLoading ? "loading" : "away");
  }
}

/** Ask the server what it is, now. */
export function connect() {
  clearTimeout(again);
  return (asking ??= ask().finally(() => (asking = null)));
}

/** Done when the server is there. */
export function ready(signal) {
  if (server.state === "ready") return Promise.resolve();
  return new Promise((resolve) => {
    const end = onChange(({ state }) => {
      if (state !== "ready") return;
      end();
      resolve();
    });
    signal.addEventListener("abort", () => (end(), resolve()), { once: true });
  });
}
