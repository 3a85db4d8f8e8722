// The box in which a question is written, and what goes with it: chosen, dropped or pasted.
import { $, h } from "../base/dom.js";
import { toast } from "../base/toast.js";
import { server } from "../server/connection.js";
import { thumbnail } from "../answer/pictures.js";
import { limitsOf, readAttachment } from "./attachments.js";

let attached = { images: [], files: [] };
let does = null;

/** `actions`: { ask(question), isRunning(), images() (pictures in the conversation), editLast() }. */
export function useComposer(actions) {
  does = actions;
  $("composer").addEventListener("submit", (event) => (event.preventDefault(), submit()));
  $("prompt").addEventListener("input", fit);
  $("prompt").addEventListener("keydown", key);
  $("prompt").addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    attach(event.clipboardData.files);
  });
  $("attach").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", async () => {
    const chosen = [...$("files").files];
    $("files").value = "";
    await attach(chosen);
  });
  useDrop($("main"));
}

function key(event) {
  if (event.key === "ArrowUp" && !$("prompt").value) return does.editLast();
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
}

function useDrop(place) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  place.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    place.classList.add("dropping");
  });
  place.addEventListener("dragleave", (event) => {
    if (!place.contains(event.relatedTarget)) place.classList.remove("dropping");
  });
  place.addEventListener("drop", (event) => {
    place.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    attach(event.dataTransfer.files);
  });
}

/** What the server says of pictures has changed. */
export function limitsChanged() {
  const limits = limitsOf(server.props);
  $("attach").title = limits
    ? `Attach pictures (PNG, JPEG, WebP, GIF; ${limits.count} in a conversation, larger ones are shrunk to ${limits.side} pixels) or text files`
    : "Attach text files";
  $("attach").setAttribute("aria-label", limits ? "Attach pictures or text files" : "Attach text files");
}

async function attach(files) {
  for (const file of files) {
    try {
      const { image, file: text } = await readAttachment(file, limitsOf(server.props), does.images() + attached.images.length);
      if (image) attached.images.push(image);
      else attached.files.push(text);
    } catch (error) {
      toast(error.message);
    }
  }
  list();
  $("prompt").focus();
}

function list() {
  const item = (kind, one, shown) => {
    const drop = () => {
      attached[kind] = attached[kind].filter((other) => other !== one);
      list();
      $("prompt").focus();
    };
    return h("li", {}, shown, h("button", { class: "drop", type: "button", "aria-label": `Remove ${one.name}`, onclick: drop }, "×"));
  };
  $("attached").replaceChildren(
    ...attached.images.map((one) => item("images", one, thumbnail(one))),
    ...attached.files.map((one) => item("files", one, h("span", { class: "name", title: one.name }, one.name))),
  );
  $("attached").hidden = !attached.images.length && !attached.files.length;
}

function fit() {
  const area = $("prompt");
  if (CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

function submit() {
  const { images, files } = attached;
  const content = $("prompt").value.trim();
  if (does.isRunning() || !(content || images.length || files.length)) return;
  $("prompt").value = "";
  attached = { images: [], files: [] };
  list();
  fit();
  does.ask({ content, ...(images.length ? { images } : {}), ...(files.length ? { files } : {}) });
}
