// From the server's `live` objects (docs/server.md) to what there is after each pass. No DOM here.

/**
 * state.tokens: final tokens { text, kind, p?, pass }: kind "block" (unmasked), "kept" (a draft accepted), "own" (the model's
 * next token). state.block, state.draft: what is being decided. state.rejected: [{ at, texts }], at: index into tokens.
 */
export function begin() {
  return {
    tokens: [], rejected: [], block: null, draft: null, start: 0, pass: 0, decided: [], fresh: new Set(), blocks: 0, cycles: 0,
    drafted: 0, accepted: 0,
  };
}

export function advance(state, pass) {
  state.pass += 1;
  state.fresh.clear();
  if (pass.block) diffuse(state, pass);
  else {
    if (pass.tokens || state.draft || !pass.draft) settle(state, pass);
    if (pass.draft) propose(state, pass); // a fused pass does both
  }
  return state;
}

export function after(passes, n) {
  const state = begin();
  for (const pass of passes.slice(0, n)) advance(state, pass);
  return state;
}

function diffuse(state, pass) {
  if (!state.block) {
    // The block begins with the last token of what is there.
    state.start = state.tokens.length - 1;
    state.decided = [];
    state.blocks += 1;
  }
  pass.block.forEach((token, i) => {
    if (token && !state.decided[i]) {
      state.decided[i] = state.pass;
      state.fresh.add(i);
    }
  });
  state.block = pass.block;
  take(state, pass.tokens, "block");
}

function propose(state, pass) {
  state.draft = pass.draft;
  state.cycles += 1;
  state.drafted += pass.draft.length;
}

function settle(state, pass) {
  const draft = state.draft;
  const accepted = pass.accepted ?? 0;
  if (state.block) take(state, pass.tokens, "own");
  else {
    take(state, (pass.tokens ?? []).slice(0, accepted), "kept");
    if (draft && accepted < draft.length) state.rejected.push({ at: state.tokens.length, texts: draft.slice(accepted) });
    take(state, (pass.tokens ?? []).slice(accepted), "own");
  }
  state.accepted += accepted;
  state.block = state.draft = null;
}

function take(state, tokens, kind) {
  for (const text of tokens ?? []) {
    const i = state.tokens.length - state.start;
    const inBlock = kind === "block" && state.block?.[i];
    state.tokens.push({
      text, kind: kind === "block" && !inBlock ? "own" : kind, p: inBlock ? inBlock.p : undefined,
      pass: inBlock ? state.decided[i] : state.pass,
    });
  }
}
