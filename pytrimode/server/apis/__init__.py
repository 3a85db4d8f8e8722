"""APIs other than OpenAI's older ones: each takes its body to a `ChatCompletionRequest` or a `CompletionRequest`, and
has a form for the answer."""
