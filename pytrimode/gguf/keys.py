"""GGUF metadata keys: each is spelled here and nowhere else in the converter.

Sources: llama.cpp `src/llama-arch.cpp` and `docs/gguf.md`; the `trimode.` keys are this project's own.
Most are in the package `gguf` too, and a test compares them. It is not imported here: its import takes 0.15 s, and
`pip` would install PyYAML, requests and tqdm with it.
"""

from typing import Final

ARCHITECTURE: Final = "mistral3"
"""Ministral 3's decoder: stock llama.cpp runs the file in AR mode under this name."""

GENERAL_ALIGNMENT: Final = "general.alignment"
GENERAL_ARCHITECTURE: Final = "general.architecture"
GENERAL_TYPE: Final = "general.type"
GENERAL_NAME: Final = "general.name"
GENERAL_SIZE_LABEL: Final = "general.size_label"
GENERAL_LICENSE: Final = "general.license"
GENERAL_LICENSE_NAME: Final = "general.license.name"
GENERAL_LICENSE_LINK: Final = "general.license.link"
GENERAL_SOURCE_URL: Final = "general.source.url"
GENERAL_TAGS: Final = "general.tags"
GENERAL_FILE_TYPE: Final = "general.file_type"
GENERAL_QUANTIZATION_VERSION: Final = "general.quantization_version"

VOCAB_SIZE: Final = f"{ARCHITECTURE}.vocab_size"
CONTEXT_LENGTH: Final = f"{ARCHITECTURE}.context_length"
EMBEDDING_LENGTH: Final = f"{ARCHITECTURE}.embedding_length"
BLOCK_COUNT: Final = f"{ARCHITECTURE}.block_count"
FEED_FORWARD_LENGTH: Final = f"{ARCHITECTURE}.feed_forward_length"
HEAD_COUNT: Final = f"{ARCHITECTURE}.attention.head_count"
HEAD_COUNT_KV: Final = f"{ARCHITECTURE}.attention.head_count_kv"
KEY_LENGTH: Final = f"{ARCHITECTURE}.attention.key_length"
VALUE_LENGTH: Final = f"{ARCHITECTURE}.attention.value_length"
RMS_EPSILON: Final = f"{ARCHITECTURE}.attention.layer_norm_rms_epsilon"
EXPERT_COUNT: Final = f"{ARCHITECTURE}.expert_count"
EXPERT_USED_COUNT: Final = f"{ARCHITECTURE}.expert_used_count"
TEMPERATURE_SCALE: Final = f"{ARCHITECTURE}.attention.temperature_scale"
ROPE_DIMENSION_COUNT: Final = f"{ARCHITECTURE}.rope.dimension_count"
ROPE_FREQ_BASE: Final = f"{ARCHITECTURE}.rope.freq_base"
ROPE_SCALING_TYPE: Final = f"{ARCHITECTURE}.rope.scaling.type"
ROPE_SCALING_FACTOR: Final = f"{ARCHITECTURE}.rope.scaling.factor"
ROPE_ORIGINAL_CONTEXT: Final = f"{ARCHITECTURE}.rope.scaling.original_context_length"
ROPE_ATTENTION_FACTOR: Final = f"{ARCHITECTURE}.rope.scaling.attn_factor"
YARN_BETA_FAST: Final = f"{ARCHITECTURE}.rope.scaling.yarn_beta_fast"
YARN_BETA_SLOW: Final = f"{ARCHITECTURE}.rope.scaling.yarn_beta_slow"
YARN_LOG_MULTIPLIER: Final = f"{ARCHITECTURE}.rope.scaling.yarn_log_multiplier"

TOKENIZER_MODEL: Final = "tokenizer.ggml.model"
TOKENIZER_PRE: Final = "tokenizer.ggml.pre"
TOKENIZER_TOKENS: Final = "tokenizer.ggml.tokens"
TOKENIZER_TOKEN_TYPE: Final = "tokenizer.ggml.token_type"
TOKENIZER_SCORES: Final = "tokenizer.ggml.scores"
TOKENIZER_MERGES: Final = "tokenizer.ggml.merges"
TOKENIZER_BOS: Final = "tokenizer.ggml.bos_token_id"
TOKENIZER_EOS: Final = "tokenizer.ggml.eos_token_id"
TOKENIZER_EOT: Final = "tokenizer.ggml.eot_token_id"
TOKENIZER_PAD: Final = "tokenizer.ggml.padding_token_id"
TOKENIZER_UNK: Final = "tokenizer.ggml.unknown_token_id"
TOKENIZER_MASK: Final = "tokenizer.ggml.mask_token_id"
TOKENIZER_ADD_BOS: Final = "tokenizer.ggml.add_bos_token"
TOKENIZER_ADD_EOS: Final = "tokenizer.ggml.add_eos_token"
TOKENIZER_ADD_SPACE_PREFIX: Final = "tokenizer.ggml.add_space_prefix"
CHAT_TEMPLATE: Final = "tokenizer.chat_template"

DIFFUSION_SHIFT_LOGITS: Final = "diffusion.shift_logits"
"""False: in a block pass the logits of row i predict the token at i, not at i + 1."""

TRIMODE_BLOCK_LENGTH: Final = "trimode.block_length"
DEFAULT_BLOCK_LENGTH: Final = 32
"""What block diffusion takes where a checkpoint names none."""
TRIMODE_THRESHOLD: Final = "trimode.threshold"
DEFAULT_THRESHOLD: Final = 0.9
"""Confidence from which block diffusion commits a token; the model card's value."""
TRIMODE_SOURCE_MODEL: Final = "trimode.source_model"
TRIMODE_SOURCE_FILES: Final = "trimode.source.files"
TRIMODE_SOURCE_SHA256: Final = "trimode.source.sha256"
"""Of each of the source files, in the same order; as the Hugging Face hub shows them."""

SPLIT_NO: Final = "split.no"
SPLIT_COUNT: Final = "split.count"
SPLIT_TENSORS_COUNT: Final = "split.tensors.count"

# What llama-quantize writes of an importance matrix that it used.
IMATRIX_FILE: Final = "quantize.imatrix.file"
IMATRIX_DATASET: Final = "quantize.imatrix.dataset"
IMATRIX_ENTRIES: Final = "quantize.imatrix.entries_count"
IMATRIX_CHUNKS: Final = "quantize.imatrix.chunks_count"

ADAPTER_TYPE: Final = "adapter.type"
ADAPTER_LORA_ALPHA: Final = "adapter.lora.alpha"
ADAPTER_ALORA_TOKENS: Final = "adapter.alora.invocation_tokens"

IMATRIX_DATASETS: Final = "imatrix.datasets"
IMATRIX_CHUNK_COUNT: Final = "imatrix.chunk_count"
IMATRIX_CHUNK_SIZE: Final = "imatrix.chunk_size"
IMATRIX_ROWS: Final = "trimode.imatrix.{}_rows"
"""Rows of causal, draft and denoise passes in it."""
