// The conversation that is shown.
import { $, h } from "../base/dom.js";
import { AnswerView, userMessage, welcome } from "../answer/messages.js";
import { RaceView } from "../answer/race.js";
import { server } from "../server/connection.js";
import { branches, path } from "../store/tree.js";

const AT_END_PX = 60;

const views = new WeakMap(); // message -> AnswerView
const races = new WeakMap(); // message -> RaceView
let actions = null;
let shown = null;

/**
 * What the user may do with messages: { ask(text), edit(message, text), regenerate(message), resume(message) or null,
 * canResume(message), choose(message), keep(message) }.
 */
export function useActions(given) {
  actions = given;
}

export const viewOf = (message) => views.get(message);
export const raceOf = (message) => races.get(message);

export function toEnd() {
  $("scroller").scrollTop = $("scroller").scrollHeight;
}

/** Change what is shown; who is at the end stays there. */
export function following(change) {
  const scroller = $("scroller");
  const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < AT_END_PX;
  change();
  if (atEnd) requestAnimationFrame(toEnd);
}

function answerView(conversation, message, { inRace = false } = {}) {
  const versions = { all: inRace ? [message] : branches(conversation, message), choose: actions.choose };
  const view = new AnswerView(message, {
    regenerate: inRace ? null : () => actions.regenerate(message),
    resume: actions.canResume(message) ? () => actions.resume(message) : null,
    versions,
  });
  views.set(message, view);
  return view;
}

function raceView(conversation, answers) {
  const lanes = answers.map((answer) => answerView(conversation, answer, { inRace: true }));
  const race = new RaceView(lanes, { keep: actions.keep, again: () => actions.regenerate(answers[0]) });
  for (const answer of answers) races.set(answer, race);
  return race;
}

/** Of a race both answers are shown until the conversation goes on with one of them. */
function answersAt(conversation, message) {
  const isLast = conversation.messages[conversation.leaf] === message;
  if (!message.race || !isLast) return [message];
  return branches(conversation, message).filter(({ race }) => race === message.race);
}

function answerElement(conversation, message, drawn) {
  const answers = answersAt(conversation, message);
  const race = answers.length > 1 ? raceView(conversation, answers) : null;
  if (!race) answerView(conversation, message);
  for (const answer of answers) {
    if (answer.making) continue;
    drawn.push(viewOf(answer).draw({ last: true }).then(() => {
      viewOf(answer).finish({ open: false });
      race?.finish(answer);
    }));
  }
  return race ? race.element : viewOf(message).element;
}

/** Show a conversation. */
export function show(conversation) {
  shown = conversation;
  const messages = path(conversation);
  if (!messages.length) {
    const { model_alias: name, example_prompts: prompts } = server.props ?? {};
    return $("messages").replaceChildren(welcome(name ?? "pytrimode", prompts ?? [], actions.ask));
  }
  const drawn = [];
  const elements = messages.map((message) => {
    if (message.role !== "user") return answerElement(conversation, message, drawn);
    const versions = { all: branches(conversation, message), choose: actions.choose };
    return userMessage(message, { edit: actions.edit, versions });
  });
  $("messages").replaceChildren(...elements);
  toEnd();
  const place = $("scroller").scrollTop;
  Promise.all(drawn).then(() => {
    if (shown === conversation && $("scroller").scrollTop === place) toEnd();
  });
}
