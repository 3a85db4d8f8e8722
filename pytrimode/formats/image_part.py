"""What stands for a picture in messages that a chat template is given."""

from typing import Any, Final

IMAGE_PART: Final[dict[str, Any]] = {"type": "image"}
"""A part of a message's content, without what it shows: this object alone, no part that is equal to it."""
IMAGE_START: Final = "<|image_start|>"
"""The token that a template writes for it."""
