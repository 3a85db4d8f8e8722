#!/usr/bin/env python3
"""Compare this folder's network with transformers' Ministral3ForCausalLM on the same weights, causally.

python check_reference.py                  # needs transformers; prints the largest difference of logits
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from checkpoint import load_model
from transformers import Ministral3Config, Ministral3ForCausalLM

HERE = Path(__file__).resolve().parent


def reference(model) -> Ministral3ForCausalLM:
    """The reference network with the weights renamed: encoder. -> model., diffusion_head. -> lm_head."""
    keep = (
        "hidden_size num_hidden_layers intermediate_size num_attention_heads num_key_value_heads head_dim vocab_size "
        "rms_norm_eps hidden_act max_position_embeddings rope_parameters tie_word_embeddings sliding_window"
    )
    config = Ministral3Config(**{k: model.config[k] for k in keep.split()}, attn_implementation="eager")
    other = Ministral3ForCausalLM(config)
    names = {k: k.replace("encoder.", "model.").replace("diffusion_head.", "lm_head.") for k in model.state_dict()}
    other.load_state_dict({names[k]: v for k, v in model.state_dict().items()}, strict=True)
    return other.eval()


@torch.no_grad()
def main() -> None:
    """Random tokens at positions from 0, across original_max, and far beyond it."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=Path, default=HERE, help="checkpoint folder (default: this script's)")
    args = p.parse_args()
    model = load_model(args.model)
    other = reference(model)
    torch.manual_seed(0)
    for first, n in ((0, 200), (0, 700), (1900, 300)):
        ids = torch.randint(0, model.config["vocab_size"], (1, n))
        position = torch.arange(first, first + n)[None]
        ours, _ = model(ids, position, torch.tril(torch.ones(1, n, n, dtype=torch.bool)))
        theirs = other(input_ids=ids, position_ids=position, use_cache=False).logits
        print(f"positions {first}..{first + n - 1}: max difference {(ours - theirs).abs().max():.1e}")


if __name__ == "__main__":
    main()
