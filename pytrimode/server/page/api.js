// The server's HTTP API, as any other client uses it.
import { settings } from "./store.js";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

function headers() {
  return settings.key ? { Authorization: `Bearer ${settings.key}` } : {};
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  return new ApiError(body?.error?.message ?? `the server answered ${response.status}`, response.status);
}

/** What is served, and the defaults of a request. */
export async function props() {
  const response = await fetch("props", { headers: headers() });
  if (!response.ok) throw await failure(response);
  return response.json();
}

/** The chunks of a streamed answer, one after another. Throws ApiError. */
export async function* chat(body, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  if (!response.ok) throw await failure(response);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, chunk.error.code);
    yield chunk;
  }
  throw new ApiError("the connection ended before the answer did", 0);
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (held + value).split("\n");
      held = lines.pop();
      for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
