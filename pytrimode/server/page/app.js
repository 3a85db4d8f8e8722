// The page: one conversation in view, one answer (or a race of two) at a time.
import { $ } from "./base/dom.js";
import { toast } from "./base/toast.js";
import { ask, answerTo, canResume, isRunning, leave, onRunning, resume, stop } from "./chat/asking.js";
import { show, useActions } from "./chat/view.js";
import { limitsChanged, useComposer } from "./controls/composer.js";
import { openInfo } from "./controls/info.js";
import { showContext } from "./controls/meter.js";
import { chooseNumber, showModes, toggleRace } from "./controls/modes.js";
import { applyTheme, openSettings } from "./controls/settings_dialog.js";
import { useShortcuts } from "./controls/shortcuts.js";
import { listConversations, toggleSidebar, useSidebar } from "./controls/sidebar.js";
import { connect, onChange, server } from "./server/connection.js";
import { conversations, loadConversations, newConversation, onElsewhere, saveConversation, stash } from "./store/conversations.js";
import { saveSettings, settings } from "./store/settings.js";
import { choose, parentOf, path } from "./store/tree.js";

let current = null;

// --- What the server is -------------------------------------------------------------------------------------------------

const BANNERS = {
  away: "The server cannot be reached. This page goes on when it is back.",
  loading: "The model is being loaded.",
  locked: "The server asks for an API key: see the settings.",
};

function serverChanged({ state, props }) {
  $("banner").hidden = !BANNERS[state];
  $("banner").textContent = BANNERS[state] ?? "";
  if (state === "locked" && !$("settings").open) settingsDialog();
  if (state !== "ready") return;
  $("model").textContent = props.model_alias;
  $("open-info").disabled = false;
  document.title = `${props.model_alias} · pytrimode`;
  showModes(props.modes, props.default_generation_settings.params.mode);
  limitsChanged();
  refresh();
  if (!current.messages.length) show(current);
}

const settingsDialog = () => openSettings(server.props?.default_generation_settings.params ?? {}, connect);

// --- Conversations ------------------------------------------------------------------------------------------------------

/** What stands around the messages. */
function refresh() {
  $("send").hidden = isRunning();
  $("stop").hidden = !isRunning();
  $("scroller").setAttribute("aria-busy", String(isRunning()));
  listConversations(current);
  showContext(current, server.props?.default_generation_settings.n_ctx);
}

function select(one) {
  if (one !== current) leave();
  current = one;
  show(one);
  refresh();
  toggleSidebar(false);
  $("prompt").focus();
}

onElsewhere((one) => {
  if (isRunning() || document.querySelector(".editor")) return;
  if (!conversations.includes(current)) current = conversations[0] ?? newConversation();
  else if (one !== current) return refresh();
  show(current);
  refresh();
});

const create = () => select(conversations.find((one) => !one.messages.length) ?? newConversation());

useSidebar({
  select,
  removed: (one) => {
    if (one !== current) return refresh();
    leave();
    current = conversations[0] ?? newConversation();
    show(current);
    return refresh();
  },
  restored: select,
});

// --- Messages -----------------------------------------------------------------------------------------------------------

/** Change which messages are shown. */
function changeTree(change) {
  leave();
  change();
  saveConversation(current);
  show(current);
  refresh();
}

useActions({
  ask: (content) => isRunning() || ask(current, path(current).at(-1) ?? null, { content }),
  edit: (message, text) => {
    leave();
    const { images, files } = message;
    ask(current, parentOf(current, message), { content: text.trim(), ...(images ? { images } : {}), ...(files ? { files } : {}) });
  },
  regenerate: (message) => {
    leave();
    answerTo(current, parentOf(current, message));
  },
  resume: (message) => isRunning() || resume(current, message),
  canResume: (message) => canResume(current, message),
  choose: (message) => changeTree(() => choose(current, message)),
  keep: (message) =>
    changeTree(() => {
      choose(current, message);
      for (const other of current.messages) if (other.race === message.race) delete other.race;
    }),
});

useComposer({
  ask: (question) => ask(current, path(current).at(-1) ?? null, question),
  isRunning,
  images: () => path(current).reduce((n, { images }) => n + (images?.length ?? 0), 0),
  editLast: () => [...document.querySelectorAll(".user .actions > button:last-child")].at(-1)?.click(),
});

onRunning(refresh);

// --- Wiring -------------------------------------------------------------------------------------------------------------

function toggleLive(on = !settings.live) {
  settings.live = $("live").checked = on;
  saveSettings();
}

useShortcuts({
  focus: () => $("prompt").focus(),
  search: () => {
    toggleSidebar(true);
    $("search").focus();
  },
  create, mode: chooseNumber, race: () => toggleRace(), live: () => toggleLive(), settings: settingsDialog,
  stop: () => {
    stop();
    toggleSidebar(false);
  },
});
$("stop").addEventListener("click", () => {
  stop();
  $("prompt").focus();
});
$("new").addEventListener("click", create);
$("menu").addEventListener("click", () => toggleSidebar());
$("scrim").addEventListener("click", () => toggleSidebar(false));
$("open-settings").addEventListener("click", settingsDialog);
$("open-info").addEventListener("click", () => openInfo(server.props));
$("live").checked = settings.live;
$("live").addEventListener("change", () => toggleLive($("live").checked));
$("race").addEventListener("change", () => toggleRace($("race").checked));
addEventListener("pagehide", () => stash(current));

applyTheme();
if (!(await loadConversations())) toast("This browser keeps nothing: conversations are lost when the page is closed.");
current = conversations[0] ?? newConversation();
show(current);
refresh();
onChange(serverChanged);
connect();
