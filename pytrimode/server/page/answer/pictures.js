// Pictures on the page: drawn on canvases, so that the page's policy need not let any image be loaded.
import { $, h } from "../base/dom.js";

/** The bytes of a `data:` URI in base64. */
export function blobOf(uri) {
  const [head, data] = uri.split(",");
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  return new Blob([bytes], { type: head.slice(5).split(";")[0] });
}

async function draw(canvas, blob, longest) {
  const whole = await createImageBitmap(blob);
  const scale = Math.min(1, longest / Math.max(whole.width, whole.height));
  canvas.width = Math.max(1, Math.round(whole.width * scale));
  canvas.height = Math.max(1, Math.round(whole.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
}

function enlarge({ name, data }) {
  const canvas = h("canvas", { role: "img", "aria-label": name });
  const close = h("button", { class: "plain", type: "button", onclick: () => $("viewer").close() }, "Close");
  $("viewer").replaceChildren(canvas, h("div", { class: "end" }, h("span", { class: "quiet small" }, name), close));
  $("viewer").showModal();
  draw(canvas, blobOf(data), 2_000);
}

/** A small picture { name, data } that can be looked at. */
export function thumbnail(image) {
  const canvas = h("canvas", { role: "img", "aria-label": image.name });
  draw(canvas, blobOf(image.data), 240).catch(() => canvas.replaceWith(image.name));
  return h("button", { class: "thumbnail", type: "button", title: `${image.name}: enlarge`, onclick: () => enlarge(image) }, canvas);
}

/** What goes with a question. */
export function attachments({ images = [], files = [] }) {
  if (!images.length && !files.length) return null;
  const shown = files.map(({ name, text }) => h("details", { class: "file" }, h("summary", {}, name), h("pre", { tabindex: "0" }, text)));
  return h("div", { class: "attached" }, ...images.map(thumbnail), ...shown);
}
