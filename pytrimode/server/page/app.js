// The page: one conversation in view, one answer at a time.
import { ApiError, chat, props } from "./api.js";
import { $, announce, h } from "./dom.js";
import { AnswerView, userMessage, welcome } from "./messages.js";
import { applyTheme, openSettings, requestFields } from "./settings.js";
import { conversations, newConversation, removeConversation, saveConversations, saveSettings, settings, titleOf } from "./store.js";

const MODE_NAMES = { auto: "Auto", "self-spec": "Self-spec", diffusion: "Diffusion", ar: "AR" };
let current = conversations[0] ?? newConversation();
let running = null; // AbortController of the answer being made
let served = { name: "pytrimode", defaults: {} };

// --- What the server is -------------------------------------------------------------------------------------------------

async function connect() {
  try {
    const found = await props();
    const defaults = found.default_generation_settings.params;
    served = { name: found.model_alias, defaults };
    showModes(found.modes, defaults.mode);
    $("model").textContent = found.model_alias;
    document.title = `${found.model_alias} · pytrimode`;
    if (!current.messages.length) show();
  } catch (error) {
    if (error instanceof ApiError && error.status === 503) return setTimeout(connect, 500);
    $("model").textContent = error.status === 401 ? "An API key is needed: see the settings" : "The server cannot be reached";
    if (error.status === 401) openSettings(served.defaults, connect);
  }
}

function showModes(modes, preset) {
  if (!modes.includes(settings.mode)) settings.mode = modes.includes(preset) ? preset : modes[0];
  const choices = Object.entries(MODE_NAMES).map(([mode, name]) => {
    const input = h("input", { type: "radio", name: "mode", value: mode, disabled: !modes.includes(mode) });
    input.checked = mode === settings.mode;
    input.addEventListener("change", () => {
      settings.mode = mode;
      saveSettings();
    });
    return h("label", {}, input, h("span", {}, name));
  });
  $("modes").replaceChildren($("modes").firstElementChild, ...choices);
}

// --- Conversations ------------------------------------------------------------------------------------------------------

function listConversations() {
  const items = conversations.filter((one) => one.messages.length || one === current).map((one) => {
    const title = h("button", { class: "title", type: "button", onclick: () => select(one), "aria-current": one === current ? "true" : null }, titleOf(one));
    const remove = h("button", { class: "icon remove", type: "button", "aria-label": `Delete “${titleOf(one)}”`, onclick: () => discard(one) }, "×");
    return h("li", {}, title, remove);
  });
  $("conversations").replaceChildren(...items);
}

/** End the answer being made, if there is one; what came of it is kept. */
function end() {
  running?.abort();
  running = null;
  setRunning(false);
}

function select(one) {
  end();
  current = one;
  show();
  toggleSidebar(false);
  $("prompt").focus();
}

function discard(one) {
  if (one === current) end();
  removeConversation(one);
  if (one === current) current = conversations[0] ?? newConversation();
  show();
}

function show() {
  listConversations();
  const { messages } = current;
  if (!messages.length) return $("messages").replaceChildren(welcome(served.name, ask));
  const shown = current;
  const drawn = [];
  const views = messages.map((message, i) => {
    if (message.role === "user") return userMessage(message, { onEdit: (text) => again(i, text) });
    const view = new AnswerView(message, { onRegenerate: () => again(i - 1, messages[i - 1].content) });
    drawn.push(view.draw({ last: true }).then(() => view.finish({ open: false })));
    return view.element;
  });
  $("messages").replaceChildren(...views);
  $("scroller").scrollTop = $("scroller").scrollHeight;
  const place = $("scroller").scrollTop;
  Promise.all(drawn).then(() => {
    if (current === shown && $("scroller").scrollTop === place) $("scroller").scrollTop = $("scroller").scrollHeight;
  });
}

// --- Asking -------------------------------------------------------------------------------------------------------------

/** Ask from the message number `index` on anew; what came after it goes. */
function again(index, text) {
  end();
  current.messages.splice(index);
  ask(text);
}

async function ask(text) {
  if (running || !text.trim()) return;
  const conversation = current;
  const answer = { role: "assistant", content: "", mode: settings.mode };
  conversation.messages.push({ role: "user", content: text.trim() }, answer);
  show();
  const index = conversation.messages.length - 2;
  const view = new AnswerView(answer, { onRegenerate: () => again(index, conversation.messages[index].content) });
  $("messages").lastElementChild.replaceWith(view.element);
  $("scroller").scrollTop = $("scroller").scrollHeight;
  const controller = (running = new AbortController());
  setRunning(true);
  const keep = setInterval(saveConversations, 2000);
  try {
    const history = conversation.messages.slice(0, -1).filter((m) => !m.error).map(({ role, content }) => ({ role, content }));
    const system = settings.system ? [{ role: "system", content: settings.system }] : [];
    await receive(chat({ messages: [...system, ...history], ...requestFields() }, controller.signal), answer, view);
    announce("The answer is complete.");
  } catch (error) {
    if (controller.signal.aborted) answer.stopped = true;
    else answer.error = error instanceof ApiError ? error.message : "The server cannot be reached.";
  }
  clearInterval(keep);
  if (running === controller) {
    running = null;
    setRunning(false);
  }
  await view.draw({ last: true });
  following(() => view.finish({ open: settings.live }));
  if (!saveConversations()) announce("The browser has no room left: this conversation is not kept.");
  listConversations();
}

async function receive(chunks, answer, view) {
  for await (const chunk of chunks) {
    const [choice] = chunk.choices;
    answer.content += choice.delta.content ?? "";
    if (choice.delta.reasoning_content) answer.reasoning = (answer.reasoning ?? "") + choice.delta.reasoning_content;
    if (chunk.timings) answer.timings = chunk.timings;
    if (choice.finish_reason === "length") answer.cut = true;
    following(() => {
      if (chunk.live) view.pass(chunk.live);
      view.update();
    });
  }
}

/** Change what is shown; who is at the end stays there. */
function following(change) {
  const scroller = $("scroller");
  const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
  change();
  if (atEnd) requestAnimationFrame(() => (scroller.scrollTop = scroller.scrollHeight));
}

function setRunning(on) {
  $("send").hidden = on;
  $("stop").hidden = !on;
  $("scroller").setAttribute("aria-busy", String(on));
}

// --- Wiring -------------------------------------------------------------------------------------------------------------

function toggleSidebar(open) {
  $("sidebar").classList.toggle("open", open);
  $("menu").setAttribute("aria-expanded", String(open));
  $("scrim").hidden = !open;
}

function fit() {
  const area = $("prompt");
  if (CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

function submit() {
  const area = $("prompt");
  if (running || !area.value.trim()) return;
  const text = area.value;
  area.value = "";
  fit();
  ask(text);
}

$("composer").addEventListener("submit", (event) => (event.preventDefault(), submit()));
$("prompt").addEventListener("input", fit);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
$("stop").addEventListener("click", () => {
  running?.abort();
  $("prompt").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("settings").open) return;
  running?.abort();
  toggleSidebar(false);
});
$("new").addEventListener("click", () => select(conversations.find((one) => !one.messages.length) ?? newConversation()));
$("menu").addEventListener("click", () => toggleSidebar(!$("sidebar").classList.contains("open")));
$("scrim").addEventListener("click", () => toggleSidebar(false));
$("open-settings").addEventListener("click", () => openSettings(served.defaults, connect));
$("live").checked = settings.live;
$("live").addEventListener("change", () => {
  settings.live = $("live").checked;
  saveSettings();
});
addEventListener("pagehide", saveConversations);

applyTheme();
show();
connect();
