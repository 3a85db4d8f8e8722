"""safetensors checkpoint -> GGUF.

    from pytrimode.convert import convert
    convert("Nemotron-Labs-Diffusion-3B", "model.gguf", "q8_0")

The life of a conversion: `checkpoint` (files, tensors) -> `names`, `hparams`, `vocab` (what they mean) ->
`type_selection` (types, by libllama) -> `encode` (bytes) -> `writer` (the GGUF file); `lora` does the same for the
drafter LoRA, `peft` for those of users, `vision` for the vision tower, `conversion` holds it together. `model_output`
is what trimode-quantize shares.
"""

from pytrimode.convert.conversion import ConversionResult, convert
from pytrimode.convert.peft import convert_lora
from pytrimode.convert.type_selection import TypeOptions
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_path, mmproj_path

__all__ = ["ConversionError", "ConversionResult", "TypeOptions", "convert", "convert_lora", "lora_path", "mmproj_path"]
