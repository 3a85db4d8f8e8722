// A request that waits for its turn: until a full queue has room (429), a model is loaded (503), a server is back.
import { ApiError, chat } from "./api.js";
import { connect, ready, server } from "./connection.js";

const USUAL_SECONDS = 2;
const MOST_SECONDS = 120;
const MOST_BREAKS = 3; // of a connection to a server that is there

const isBusy = (error) => error instanceof ApiError && (error.status === 429 || error.status === 503);
const isAway = (error) => error instanceof TypeError; // what fetch throws

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

async function countDown(seconds, reason, onWait, signal) {
  for (let left = Math.ceil(seconds); left > 0 && !signal.aborted; left -= 1) {
    onWait(`${reason} It is asked again in ${left} s.`);
    await pause(1000 * Math.min(1, seconds), signal);
  }
}

/** As `chat`; `onWait` is called with what is waited for, and with "" when that is over. Once it has begun nothing is asked again. */
export async function* patientChat(body, signal, onWait) {
  for (let breaks = 0; ; ) {
    let begun = false;
    try {
      for await (const chunk of chat(body, signal)) {
        if (!begun) onWait("");
        begun = true;
        yield chunk;
      }
      return;
    } catch (error) {
      if (isAway(error)) {
        await connect();
        if (server.state === "ready") breaks += 1;
      }
      if (breaks >= MOST_BREAKS || begun || signal.aborted || !(isBusy(error) || isAway(error))) throw error;
      if (isAway(error)) {
        onWait("The server cannot be reached. It is asked again when it is back.");
        await ready(signal);
      } else {
        const reason = error.status === 429 ? "The server is busy." : "The server is not ready.";
        await countDown(Math.min(MOST_SECONDS, error.retryAfter ?? USUAL_SECONDS), reason, onWait, signal);
      }
      signal.throwIfAborted();
    }
  }
}
