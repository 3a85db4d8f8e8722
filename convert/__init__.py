"""safetensors checkpoint -> GGUF.

    from pytrimode.convert import convert
    convert("Nemotron-Labs-Diffusion-3B", "model.gguf", "q8_0")

The life of a conversion: `checkpoint` (files, tensors) -> `names`, `hparams`, `vocab` (what they mean) -> `encode`
(bytes) -> `writer` (the GGUF file); `lora` does the same for the drafter LoRA, `conversion` holds it together.
"""

from .conversion import ConversionResult, convert, lora_path
from .errors import ConversionError

__all__ = ["ConversionError", "ConversionResult", "convert", "lora_path"]
