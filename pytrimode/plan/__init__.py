"""Will it fit, what to choose, how fast will it be: before anything is downloaded, converted or loaded.

    from pytrimode.plan import plan
    plan("14B", vram="24GiB", n_ctx=32768).choice

`model_shape` -> `weights` (bytes by quantization), `measure` (cache and compute buffers, asked from the backend),
`cards` and `speed` (estimates; `published` holds them against measurements) -> `planner`.
"""

from pytrimode.plan.planner import Option, Plan, plan

__all__ = ["Option", "Plan", "plan"]
