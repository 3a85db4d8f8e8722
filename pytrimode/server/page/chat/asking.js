// Answers being made: one at a time, or two in a race.
import { ApiError } from "../server/api.js";
import { connect, server } from "../server/connection.js";
import { patientChat } from "../server/patience.js";
import { announce } from "../base/dom.js";
import { toast } from "../base/toast.js";
import { saveConversation, tokensOf } from "../store/conversations.js";
import { settings } from "../store/settings.js";
import { add, endAt } from "../store/tree.js";
import { together } from "../answer/stats.js";
import { requestFor } from "./request.js";
import { following, raceOf, show, toEnd, viewOf } from "./view.js";

const SAVE_MS = 2_000;

let running = null; // AbortController
let changed = () => {};

/** `listener` is called when an answer begins or ends. */
export function onRunning(listener) {
  changed = listener;
}

export const isRunning = () => running !== null;

/** End the answer being made, if there is one; what came of it is kept. */
export function stop() {
  running?.abort();
}

/** Stop, and leave the answer to itself: another conversation is looked at. */
export function leave() {
  stop();
  running = null;
  changed();
}

/** Ask a question { content, images?, files? } behind a message (null: as the first). */
export function ask(conversation, parent, question) {
  answerTo(conversation, add(conversation, parent, { role: "user", ...question }));
}

/** Ask for another answer to a question: of the present mode, or of both modes of a race. */
export function answerTo(conversation, question) {
  const race = settings.race ? `${Date.now()}` : undefined;
  const modes = settings.race ? settings.racers : [settings.mode];
  const answers = modes.map((mode) =>
    add(conversation, question, { role: "assistant", content: "", mode, making: true, ...(race ? { race } : {}) }));
  endAt(conversation, answers[0]);
  show(conversation);
  toEnd();
  return run(conversation, answers);
}

/** Go on with an answer that was cut off. */
export function resume(conversation, answer) {
  for (const name of ["cut", "full", "stopped", "error"]) delete answer[name];
  answer.making = true;
  viewOf(answer).begin();
  return run(conversation, [answer]);
}

async function run(conversation, answers) {
  const controller = (running = new AbortController());
  changed();
  saveConversation(conversation, { tell: false });
  const saving = setInterval(() => saveConversation(conversation, { tell: false }), SAVE_MS);
  const seed = answers.length > 1 && settings.options.seed === undefined ? { seed: Math.floor(Math.random() * 2 ** 31) } : {};
  await Promise.all(answers.map((answer) => make(conversation, answer, controller.signal, seed)));
  clearInterval(saving);
  if (running === controller) running = null;
  announce(answers.some(({ error }) => error) ? "The answer ended with an error." : "The answer is complete.");
  if (!(await saveConversation(conversation))) toast("The browser has no room left: this conversation is not kept.");
  changed();
}

async function make(conversation, answer, signal, more) {
  const view = viewOf(answer);
  try {
    const body = { ...requestFor(conversation, answer), ...more };
    await receive(patientChat(body, signal, (text) => view.wait(text)), conversation, answer);
  } catch (error) {
    if (signal.aborted) answer.stopped = true;
    else if (error instanceof ApiError) answer.error = error.message;
    else answer.error = "The connection to the server broke.";
    if (!signal.aborted && !(error.status >= 400)) connect();
  }
  delete answer.making;
  await view.draw({ last: true });
  const race = raceOf(answer);
  following(() => {
    view.does.resume = canResume(conversation, answer) ? () => resume(conversation, answer) : null;
    view.finish({ open: settings.live });
    race?.finish(answer);
  });
}

async function receive(chunks, conversation, answer) {
  const view = viewOf(answer);
  const race = raceOf(answer);
  const before = answer.timings;
  for await (const chunk of chunks) {
    const [choice] = chunk.choices;
    if (!choice) continue;
    answer.content += choice.delta.content ?? "";
    if (choice.delta.reasoning_content) answer.reasoning = (answer.reasoning ?? "") + choice.delta.reasoning_content;
    if (chunk.timings) answer.timings = together(before, chunk.timings);
    if (choice.finish_reason === "length") {
      answer.cut = true;
      answer.full = tokensOf(conversation) >= server.props?.default_generation_settings.n_ctx || undefined;
    }
    following(() => {
      if (chunk.live) race?.pass(answer, chunk.live);
      if (chunk.live && settings.live) view.pass(chunk.live);
      view.update();
    });
  }
}

/** Whether an answer ended before its end, and has a beginning to go on from. */
export function canResume(conversation, answer) {
  const isBroken = answer.cut || answer.stopped || answer.error;
  return Boolean(isBroken && answer.content && !answer.full && !answer.race && conversation.messages[conversation.leaf] === answer);
}
