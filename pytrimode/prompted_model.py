"""A loaded model with what prompts and options need to know of its engine and its vision tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytrimode.formats.image_part import IMAGE_START
from pytrimode.loaded_model import LoadedModel
from pytrimode.options.generation_options import GenerationOptions, Limits, ResolvedOptions, with_options
from pytrimode.options.loras import scales_of
from pytrimode.options.option import checked
from pytrimode.vision.picture import open_picture
from pytrimode.vision.prompt import NO_VISION, Prompt, count_images, expand, take_pictures, too_long

if TYPE_CHECKING:
    from pytrimode import _native
    from pytrimode.formats.chat_template import Message
    from pytrimode.formats.tool_choice import Tools
    from pytrimode.vision.encoder import Vision
    from pytrimode.vision.picture import Picture
    from pytrimode.vision.prompt import Pictures


class PromptedModel(LoadedModel):
    """Prompts with pictures, and options completed from what the model and its engine allow."""

    def __init__(
        self,
        model: _native.Model,
        model_path: str,
        *,
        n_ctx: int,
        n_batch: int,
        seed: int | None,
        lora_scales: Sequence[float] = (),
    ) -> None:
        super().__init__(model, model_path)
        self.seed = seed
        self.vision: Vision | None = None
        """The vision tower; None: the model takes no images."""
        # Of an object of its own: a method of this one would be a circle, and the weights would wait for a collection.
        special_token = LoadedModel(model, model_path).special_token
        self._limits = Limits(
            n_ctx,
            n_batch,
            self.n_vocab,
            self.mask_token_id,
            self._think_begin,
            self._think_end,
            self._metadata,
            tuple(lora_scales),
            special_token,
        )

    @property
    def lora_scales(self) -> tuple[float, ...]:
        """The scale of each LoRA adapter in requests that name none, by its number."""
        return self._limits.lora_scales

    def set_lora_scales(self, asked: Sequence[Mapping[str, Any]]) -> None:
        """Set them for requests from now on: each an `id` and a `scale`; others are off.

        Raises TypeError and ValueError for what is no scale, or no adapter.
        """
        self._limits = replace(self._limits, lora_scales=tuple(scales_of(asked, self.lora_scales)))

    @property
    def n_ctx(self) -> int:
        """Tokens that prompt and completion may have together."""
        return self._limits.n_ctx

    @property
    def n_batch(self) -> int:
        """Most rows of a pass: those of a block, or of a gap and the text behind it, are in one."""
        return self._limits.n_batch

    # --- Prompts ---------------------------------------------------------------------------------------------------

    def chat_prompt(
        self,
        messages: Sequence[Message],
        *,
        enable_thinking: bool = False,
        local: bool = True,
        tools: Tools | None = None,
        **variables: Any,
    ) -> Prompt:
        """Return the prompt of a conversation and its images, up to where the assistant begins to answer.

        Messages of the user may have parts {"type": "image_url", "image_url": {"url": "data:image/...", "detail": ...}}
        and, with `local`, {"type": "image", "image": a path, bytes, a Pillow image or an array}. `tools`: see
        `LoadedModel.tools`.

        Raises ValueError for messages that the template refuses, images that cannot be read, and texts that contain the
        tokens of images; OSError for a file that cannot be read.
        """
        variables["enable_thinking"] = enable_thinking
        text, pictures = self.rendered(messages, local=local, tools=tools, **variables)
        return self.vision_prompt(self.rendered_tokens(text), pictures)

    def rendered(
        self, messages: Sequence[Message], *, local: bool, tools: Tools | None, **variables: Any
    ) -> tuple[str, list[Picture]]:
        """Return a conversation as text for `rendered_tokens`, and its pictures; see `chat_prompt`."""
        messages = checked("messages", "Sequence[Mapping[str, Any]]", messages)
        pictures: list[Picture] = []
        if self.vision:
            messages, pictures = take_pictures(messages, local=local)
        elif count_images(messages):
            raise ValueError(NO_VISION.format(self.model_path if local else "the model"))
        return self.render_chat(messages, tools=tools, **variables), pictures

    def vision_prompt(self, tokens: Sequence[int], pictures: Sequence[Picture] = ()) -> Prompt:
        """Tokens with a place for each picture, the token that begins it, as a prompt with the pictures in it.

        Raises ValueError for pictures that a model without vision is given, and tokens that are not those of so many.
        """
        if self.vision is None:
            if pictures:
                raise ValueError(NO_VISION.format(self.model_path))
            return Prompt(list(tokens), None)
        return expand(tokens, pictures, self.vision.ids, self.vision.max_side)

    def image_prompt(self, prompt: str | Sequence[int], images: Sequence[Any] | None) -> Prompt:
        """Return a prompt with images: where the text has `<|image_start|>` for each, else in front of it."""
        pictures = [
            open_picture(image) for image in checked("images", "Sequence[Any]", () if images is None else images)
        ]
        if isinstance(prompt, str) and pictures and IMAGE_START not in prompt:
            prompt = IMAGE_START * len(pictures) + prompt
        tokens = self.prompt_tokens(prompt)
        return self.vision_prompt(tokens, pictures) if pictures else Prompt(tokens, None)

    # --- Options ---------------------------------------------------------------------------------------------------

    def request_options(self, arguments: Mapping[str, Any], **defaults: Any) -> GenerationOptions:
        """Return the options of a request from keyword arguments; None is the method's default, then the model's."""
        given = {name: value for name, value in arguments.items() if value is not None}
        if "max_tokens" in arguments:  # to the end of the context, as in llama-cpp-python
            given["max_tokens"] = arguments["max_tokens"]
        return with_options(GenerationOptions(), {"seed": self.seed, **defaults, **given})

    def resolve(self, options: GenerationOptions, n_prompt: int, pictures: Pictures | None = None) -> ResolvedOptions:
        """See `GenerationOptions.resolve`. Raises ValueError also for images that do not fit the context."""
        if pictures and n_prompt >= self.n_ctx:
            raise ValueError(too_long(n_prompt, self.n_ctx, pictures))
        return replace(options.resolve(n_prompt, self._limits), pictures=pictures)
