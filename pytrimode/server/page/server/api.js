// The server's HTTP API, as any other client uses it.
import { settings } from "../store/settings.js";

export class ApiError extends Error {
  /** `status`: of HTTP, 0: the connection broke; `retryAfter`: seconds that the server asks to wait, or null. */
  constructor(message, status, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

function headers() {
  return settings.key ? { Authorization: `Bearer ${settings.key}` } : {};
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  const seconds = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const message = body?.error?.message ?? `the server answered ${response.status}`;
  return new ApiError(message, response.status, Number.isFinite(seconds) ? seconds : null);
}

async function get(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) throw await failure(response);
  return response.json();
}

/** What is served, and the defaults of a request. */
export const props = () => get("props");

export const models = () => get("v1/models");

/** Fields of a request by name, each with its type and what it does, as JSON schema has them. */
export async function requestSchema() {
  const schema = await get("openapi.json");
  return schema.components.schemas.ChatCompletionRequest.properties;
}

/** The chunks of a streamed answer, one after another. Throws ApiError, and TypeError where no server answers. */
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
