// The list of conversations: search, rename, pin, export, import, delete and take back.
import { $, h } from "../base/dom.js";
import { openMenu } from "../base/menu.js";
import { toast } from "../base/toast.js";
import { removeConversation, saveConversation, searched, titleOf } from "../store/conversations.js";
import { exportJson, exportMarkdown, importFile } from "../store/transfer.js";

let current = null;
let does = null;

/** `actions`: { select(conversation), removed(conversation), restored(conversation) }. */
export function useSidebar(actions) {
  does = actions;
  $("search").addEventListener("input", list);
  $("search").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && $("search").value) (event.stopPropagation(), ($("search").value = ""), list());
    if (event.key === "Enter") $("conversations").querySelector(".title")?.click();
  });
  $("transfer").addEventListener("click", () => openMenu($("transfer"), [["Export all", () => exportJson()], ["Import", () => $("import").click()]]));
  $("import").addEventListener("change", async () => {
    const [file] = $("import").files;
    $("import").value = "";
    if (file) await take(file);
  });
}

async function take(file) {
  try {
    const count = await importFile(file);
    toast(`${count} ${count === 1 ? "conversation" : "conversations"} imported.`);
  } catch (error) {
    toast(error.message);
  }
  list();
}

export function listConversations(conversation) {
  current = conversation;
  list();
}

export function toggleSidebar(open = !$("sidebar").classList.contains("open")) {
  $("sidebar").classList.toggle("open", open);
  $("menu").setAttribute("aria-expanded", String(open));
  $("scrim").hidden = !open;
}

function list() {
  const found = searched($("search").value).filter((one) => one.messages.length || one === current);
  $("conversations").replaceChildren(...found.map(item));
  $("nothing").hidden = found.length > 0;
}

function item(one) {
  const name = titleOf(one);
  const title = h("button", { class: "title", type: "button", dir: "auto", onclick: () => does.select(one), "aria-current": one === current ? "true" : null }, name);
  const pin = one.pinned ? h("span", { class: "pin", role: "img", "aria-label": "pinned" }) : null;
  const more = h("button", { class: "icon more", type: "button", "aria-label": `More for “${name}”`, "aria-haspopup": "menu", onclick: () => openMenu(more, entries()) }, "⋯");
  const element = h("li", {}, pin, title, more);
  element.addEventListener("dblclick", () => rename(one, element));
  const entries = () => [
    ["Rename", () => rename(one, element)],
    [one.pinned ? "Unpin" : "Pin", () => pinned(one, !one.pinned)],
    ["Export as JSON", () => exportJson([one])],
    ["Export as Markdown", () => exportMarkdown(one)],
    ["Delete", () => discard(one)],
  ];
  return element;
}

function rename(one, element) {
  const input = h("input", { class: "rename", "aria-label": "Title", maxlength: "200", dir: "auto" });
  input.value = titleOf(one);
  let done = false;
  const end = (keep) => {
    if (done) return;
    done = true;
    if (keep && input.value.trim() !== titleOf(one)) {
      one.title = input.value.trim() || undefined;
      saveConversation(one, { isNew: false });
    }
    list();
  };
  input.addEventListener("blur", () => end(true));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) end(true);
    if (event.key === "Escape") (event.stopPropagation(), end(false));
  });
  element.replaceChildren(input);
  input.select();
}

function pinned(one, on) {
  one.pinned = on || undefined;
  saveConversation(one, { isNew: false });
  list();
}

function discard(one) {
  const name = titleOf(one);
  const putBack = removeConversation(one);
  does.removed(one);
  toast(`“${name}” was deleted.`, {
    name: "Undo",
    run: async () => {
      await putBack();
      does.restored(one);
    },
  });
}
