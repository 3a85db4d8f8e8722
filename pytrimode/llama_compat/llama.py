"""`Llama`: the constructor and the completions of `llama_cpp.Llama`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytrimode.llama_compat import stopping
from pytrimode.llama_compat.evaluation import Evaluation
from pytrimode.llama_compat.grammar import LlamaGrammar, grammar_text
from pytrimode.llama_compat.loading import load_arguments
from pytrimode.llama_compat.named import named
from pytrimode.llama_compat.pretrained import download
from pytrimode.llama_compat.refusals import DEPRECATED, SAMPLING, refuse, refuse_processors
from pytrimode.options.modes import AUTO, check_mode
from pytrimode.trimode import TriMode


class Llama(Evaluation):
    """`llama_cpp.Llama` of llama-cpp-python 0.3.36 over `TriMode`: its names, its order, its results.

    A parameter that pytrimode lacks takes its neutral value; others raise ValueError with its name. `n_ctx` 0: the
    context that the model was made for. `flash_attn` None: on. `n_ubatch` and `no_perf` change nothing, and
    log-probabilities need no `logits_all`. `mode`: how to decode where a call does not say (`auto`: self-spec, with the
    text of ar); `options`: further ones of `TriMode`. Calls take further options of `TriMode.create_completion` too.

    Raises as `TriMode`.
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        n_gpu_layers: int = 0,
        split_mode: int = 1,
        main_gpu: int = 0,
        tensor_split: Sequence[float] | None = None,
        vocab_only: bool = False,
        use_mmap: bool = True,
        use_mlock: bool = False,
        kv_overrides: Mapping[str, Any] | None = None,
        seed: int | None = 0xFFFFFFFF,
        n_ctx: int = 512,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        rope_scaling_type: int | None = -1,
        pooling_type: int = -1,
        attention_type: int = -1,
        rope_freq_base: float = 0.0,
        rope_freq_scale: float = 0.0,
        yarn_ext_factor: float = -1.0,
        yarn_attn_factor: float = 1.0,
        yarn_beta_fast: float = 32.0,
        yarn_beta_slow: float = 1.0,
        yarn_orig_ctx: int = 0,
        logits_all: bool = False,
        embedding: bool = False,
        offload_kqv: bool = True,
        flash_attn: bool | None = None,
        op_offload: bool | None = None,
        swa_full: bool | None = None,
        no_perf: bool = False,
        last_n_tokens_size: int = 64,
        lora_base: str | None = None,
        lora_scale: float = 1.0,
        lora_path: str | None = None,
        numa: bool | int = False,
        chat_format: str | None = None,
        chat_handler: Any = None,
        draft_model: Any = None,
        tokenizer: Any = None,
        type_k: int | str | None = None,
        type_v: int | str | None = None,
        spm_infill: bool = False,
        verbose: bool = False,
        mode: str = AUTO,
        **options: Any,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "options", "__class__")}
        self._arguments = {**given, **options}
        loading = load_arguments(model_path, given)
        model = TriMode(model_path, **loading, **options)
        check_mode(mode, has_mask=model.mask_token_id >= 0)
        super().__init__(model, mode=mode, seed=seed, last_n_tokens_size=last_n_tokens_size, logits_all=logits_all)
        self.n_batch: int = loading["n_batch"]
        self.verbose = verbose
        self.chat_format = chat_format

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments of the constructor, which then loads the file again."""
        return _loaded, (type(self), self._arguments)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str | None,
        additional_files: Sequence[str] | None = None,
        local_dir: str | Path | None = None,
        local_dir_use_symlinks: bool | str = "auto",
        cache_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> Llama:
        """Load a model from Hugging Face, downloaded unless it is in their cache.

        `filename`: a name or a pattern that one file matches, each of `additional_files` likewise (a drafter LoRA, the
        other parts of a split file). `local_dir_use_symlinks` changes nothing. `kwargs`: those of the constructor.

        Raises ImportError without huggingface_hub (`pip install 'pytrimode[hub]'`), ValueError for a pattern that
        matches no file or several.
        """
        return cls(download(repo_id, filename, additional_files, local_dir, cache_dir), **kwargs)

    # --- Completions -----------------------------------------------------------------------------------------------

    def create_completion(
        self,
        prompt: str | Sequence[int],
        suffix: str | None = None,
        max_tokens: int | None = 16,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        logprobs: int | None = None,
        echo: bool = False,
        stop: str | Sequence[str] | None = None,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        top_k: int = 40,
        stream: bool = False,
        seed: int | None = None,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        stopping_criteria: stopping.Criterion | None = None,
        logits_processor: Any = None,
        grammar: LlamaGrammar | None = None,
        logit_bias: Mapping[int, float] | None = None,
        **options: Any,
    ) -> Any:
        """Continue a prompt; results, errors and further `options` are `TriMode.create_completion`'s.

        `max_tokens` None, 0 or less: to the end of the context. `suffix`: the middle is written by block diffusion, of
        `max_tokens` tokens. `model`: the name in the result. `stopping_criteria`: functions that are asked before each
        token, with the token ids so far and the logits of the next one.
        """
        refuse(SAMPLING, {"tfs_z": tfs_z, "mirostat_mode": mirostat_mode})
        refuse_processors(logits_processor)
        if stopping_criteria is not None and echo and logprobs is not None:
            raise NotImplementedError("stopping_criteria: not together with echo and logprobs, leave one out")
        asked: dict[str, Any] = {
            "suffix": suffix, "logprobs": logprobs, "echo": echo, "typical_p": typical_p,
            **self._request(max_tokens, grammar, options, choose_mode=not suffix), "temperature": temperature,
            "top_p": top_p, "min_p": min_p, "stop": stop, "frequency_penalty": frequency_penalty,
            "presence_penalty": presence_penalty, "repeat_penalty": repeat_penalty, "top_k": top_k,
            "seed": self._seed_for(seed), "logit_bias": logit_bias,
        }  # fmt: skip
        self._tokens = self.trimode.prompt_tokens(prompt)
        if not stopping_criteria:
            return named(self.trimode.create_completion(prompt, stream=stream, **asked), model)
        job = self.trimode.jobs.asked_completion(prompt, **asked)
        run = stopping.stream if stream else stopping.run
        return named(run(self.trimode, job, stopping_criteria), model)

    __call__ = create_completion

    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        functions: Any = None,
        function_call: Any = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        stream: bool = False,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        logits_processor: Any = None,
        grammar: LlamaGrammar | None = None,
        logit_bias: Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        **options: Any,
    ) -> Any:
        """Answer a conversation; results, errors and further `options` are `TriMode.create_chat_completion`'s."""
        refuse(DEPRECATED, {"functions": functions, "function_call": function_call})
        refuse(SAMPLING, {"tfs_z": tfs_z, "mirostat_mode": mirostat_mode})
        refuse_processors(logits_processor)
        asked: dict[str, Any] = {
            "tools": tools, "tool_choice": tool_choice, "response_format": response_format, "logprobs": logprobs,
            "top_logprobs": top_logprobs, **self._request(max_tokens, grammar, options), "temperature": temperature,
            "top_p": top_p, "top_k": top_k, "min_p": min_p, "typical_p": typical_p, "stop": stop,
            "seed": self._seed_for(seed), "presence_penalty": presence_penalty, "frequency_penalty": frequency_penalty,
            "repeat_penalty": repeat_penalty, "logit_bias": logit_bias,
        }  # fmt: skip
        return named(self.trimode.create_chat_completion(messages, stream=stream, **asked), model)

    def create_chat_completion_openai_v1(self, *args: Any, **kwargs: Any) -> Any:
        """`create_chat_completion` as objects of the package `openai`. Raises ImportError without it."""
        try:
            from openai.types.chat import ChatCompletion, ChatCompletionChunk
        except ImportError:
            raise ImportError("create_chat_completion_openai_v1 needs openai: pip install openai") from None
        answer = self.create_chat_completion(*args, **kwargs)
        if isinstance(answer, dict):
            return ChatCompletion(**answer)
        return (ChatCompletionChunk(**chunk) for chunk in answer)

    def _request(
        self,
        max_tokens: int | None,
        grammar: LlamaGrammar | None,
        options: Mapping[str, Any],
        *,
        choose_mode: bool = True,
    ) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "penalty_last_n": self.last_n_tokens_size,
            "grammar": grammar_text(grammar),
            **options,
            "max_tokens": max_tokens if max_tokens is None or max_tokens > 0 else None,
        }
        return {"mode": self._mode, **asked} if choose_mode else asked


def _loaded(kind: type[Llama], arguments: dict[str, Any]) -> Llama:
    return kind(**arguments)
