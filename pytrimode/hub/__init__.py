"""A model by its name on the Hugging Face hub: `pytrimode chat OWNER/NAME`, `TriMode.from_pretrained`.

`reference` (what the user wrote) -> `store` (is it here already?) -> `repository` (what the hub has) -> `choice` (which
type fits) -> `fetch` (download, convert). Nothing here opens a connection where the store has the model. The package
huggingface_hub, the extra `[hub]`, downloads; it is imported at the first download.
"""
