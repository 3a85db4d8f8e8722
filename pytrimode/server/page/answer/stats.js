// Figures of an answer, from the server's `timings`.

/** In a line. */
export function statsLine(message) {
  const t = message.timings;
  if (!t) return "";
  const parts = [`${t.predicted_per_second.toFixed(1)} tokens/s`, `${t.tokens_per_forward.toFixed(2)} per pass`];
  if (t.draft_n) parts.push(`${Math.round((100 * t.draft_n_accepted) / t.draft_n)} % accepted`);
  parts.push(`${t.predicted_n} tokens, ${t.forward_passes} passes`);
  return [message.mode, ...parts].filter(Boolean).join(" · ");
}

/** Of an answer that was continued: the first part's figures and the second's together. */
export function together(first, second) {
  if (!first) return second;
  const sum = (name) => first[name] + second[name];
  const all = { ...second };
  for (const name of ["predicted_n", "predicted_ms", "forward_passes", "draft_n", "draft_n_accepted"]) all[name] = sum(name);
  // The first part is in the second's prompt: the context has it once.
  all.prompt_n = second.prompt_n - first.predicted_n;
  all.predicted_per_second = (1000 * all.predicted_n) / all.predicted_ms;
  all.tokens_per_forward = all.predicted_n / all.forward_passes;
  return all;
}
