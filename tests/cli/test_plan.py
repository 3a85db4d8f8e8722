"""`pytrimode plan`: its bytes against what the converter writes and the engine allocates, its speeds against what was
published."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.synthetic import make_checkpoint

from pytrimode import TriMode, _native
from pytrimode.cli import run
from pytrimode.convert import convert
from pytrimode.gguf.file_names import lora_path
from pytrimode.gguf.header import read_gguf_header
from pytrimode.gguf.sizes import memory_text, parse_size, size_text
from pytrimode.gguf.types import OUTPUT_TYPES, OutputType
from pytrimode.options.gpu_layers import most_that_fit, parse_gpu_layers
from pytrimode.plan import cpu, plan
from pytrimode.plan.cards import CARDS, find_card
from pytrimode.plan.measure import measure
from pytrimode.plan.model_shape import BUILT_IN, model_shape
from pytrimode.plan.planner import CACHE_TYPES, GIB, layers_that_fit
from pytrimode.plan.published import Comparison, comparisons
from pytrimode.plan.speed import Load, acceptance_from, pass_seconds, speeds, tokens_per_cycle
from pytrimode.plan.weights import AS_STORED, QUANTIZATIONS, lora_bytes, weight_bytes

TOLERANCE = 0.03


@pytest.fixture(scope="module")
def odd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows that are no whole blocks of some types, heads wider than hidden / heads, and a LoRA."""
    return make_checkpoint(
        tmp_path_factory.mktemp("odd") / "odd", hidden=160, layers=3, heads=6, kv_heads=2, head_dim=64, ffn=336,
        vocab=768, lora_rank=8,
    )  # fmt: skip


# --- Figures that are known ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "bf16_bytes", "kv_kib"), [("3B", 7.663e9, 104), ("8B", 17.0e9, 136), ("14B", 27.0e9, 160)]
)
def test_the_family_has_its_published_sizes(size: str, bf16_bytes: float, kv_kib: int) -> None:
    found = plan(size, n_ctx=1024)
    stored = {option.quantization: option.weights for option in found.options}
    assert stored["bf16"] == pytest.approx(bf16_bytes, rel=0.002)
    assert found.kv_per_token["f16"] == kv_kib * 1024
    assert found.kv_cache["f16"] == 1024 * kv_kib * 1024


def test_14b_in_q8_0_with_32k_fits_24_gb() -> None:
    found = plan("14B", vram="24GiB", n_ctx=32768)
    assert found.choice is not None
    assert (found.choice.quantization, found.choice.cache_type, found.choice.gpu_layers) == ("q8_0", "f16", -1)
    assert found.choice.weights == pytest.approx(14.4e9, rel=0.01)
    assert found.kv_cache["f16"] == 5 * GIB
    assert find_card("3090").bandwidth * 1e9 / found.choice.weights == pytest.approx(65, rel=0.01)
    # The embedding stays in main memory, everything else is on the device.
    parts = found.choice.weights - found.embedding["q8_0"] + found.lora + found.kv_cache["f16"] + found.compute
    assert found.choice.on_device == parts
    assert found.choice.on_device + GIB <= 24 * GIB


def test_less_memory_gives_a_smaller_cache_then_smaller_weights_then_fewer_layers() -> None:
    def chosen(vram: str, n_ctx: int = 32768) -> tuple[str, str] | None:
        choice = plan("14B", vram=vram, n_ctx=n_ctx).choice
        return (choice.quantization, choice.cache_type) if choice else None

    assert chosen("18GiB") == ("q8_0", "q8_0")
    assert chosen("14GiB") == ("q6_k", "q8_0")
    assert chosen("10GiB") == ("q3_k_m", "q8_0")
    nothing = plan("14B", vram="6GiB")
    assert nothing.choice is None
    assert all(option.gpu_layers is not None and 0 < option.gpu_layers < 41 for option in nothing.options)


def test_the_context_becomes_shorter_before_weights_and_cache_lose_bits(capsys: pytest.CaptureFixture[str]) -> None:
    asked = plan("8B", vram="7GiB", n_ctx=32768).choice
    assert asked is not None and (asked.cache_type == "q4_0" or asked.bits_per_weight < 4), "the case in question"
    found = plan("8B", vram="7GiB")
    assert found.choice is not None and found.choice.cache_type == "q8_0" and found.choice.bits_per_weight > 4
    assert found.shortened and 4096 <= found.n_ctx < 32768
    longer = plan("8B", vram="7GiB", n_ctx=2 * found.n_ctx).choice
    assert longer is None or longer.cache_type == "q4_0" or longer.bits_per_weight < 4, "no shorter than it must be"
    assert run(["plan", "8B", "--vram", "7GiB"]) == 0
    out = capsys.readouterr().out
    assert f"(-c {found.n_ctx} " in out and "shortened; -c sets it" in out
    assert not plan("8B", vram="24GiB").shortened and plan("8B", vram="24GiB").n_ctx == 32768
    assert plan("14B", vram="6GiB").choice is None


def test_layers_are_counted_as_libllama_offloads_them() -> None:
    assert layers_that_fit([10, 10, 20], head=5, room=4) == 0
    assert layers_that_fit([10, 10, 20], head=5, room=5) == 1
    assert layers_that_fit([10, 10, 20], head=5, room=24) == 1  # the last layer comes first
    assert layers_that_fit([10, 10, 20], head=5, room=35) == 3
    assert layers_that_fit([10, 10, 20], head=5, room=45) == 4


# --- What the converter writes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("outtype", [*QUANTIZATIONS, "f16", "f32", "q5_1", "mxfp4"])
def test_weights_are_what_the_converter_writes(odd_checkpoint: Path, tmp_path: Path, outtype: str) -> None:
    written = read_gguf_header(convert(odd_checkpoint, tmp_path / "odd.gguf", outtype).path)
    planned = weight_bytes(model_shape(odd_checkpoint), outtype)
    assert planned.total == sum(t.n_bytes or 0 for t in written.tensors)
    assert planned.params == sum(t.n_params for t in written.tensors)
    lora = read_gguf_header(lora_path(tmp_path / "odd.gguf"))
    assert lora_bytes(model_shape(odd_checkpoint)) == sum(t.n_bytes or 0 for t in lora.tensors)
    stored = weight_bytes(model_shape(tmp_path / "odd.gguf"), AS_STORED)
    assert stored == planned


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUT_TYPES.values(), ids=OUTPUT_TYPES)
def test_the_bits_in_the_converters_help_are_those_of_the_8b(output: OutputType) -> None:
    told = re.match(r"([\d.]+) bits", output.text)
    assert told or not output.is_quantized
    if told:
        assert float(told[1]) == pytest.approx(weight_bytes(model_shape("8B"), output.name).bits_per_weight, abs=0.051)


def test_a_gguf_file_has_the_shape_of_its_checkpoint(odd_checkpoint: Path, tmp_path: Path) -> None:
    file = convert(odd_checkpoint, tmp_path / "odd.gguf", "q4_0").path
    ours, checkpoints = model_shape(file), model_shape(odd_checkpoint)
    assert ours.lora_rank == checkpoints.lora_rank == 8
    for name in QUANTIZATIONS:
        assert weight_bytes(ours, name) == weight_bytes(checkpoints, name)


# --- What the engine allocates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_ctx", [300, 4096])
@pytest.mark.parametrize(("cache_type", "flash_attn"), [("f16", True), ("q8_0", True), ("q4_0", True), ("f16", False)])
def test_memory_is_what_the_engine_allocates(
    checkpoint_dir: Path, q8_gguf: Path, n_ctx: int, cache_type: str, flash_attn: bool
) -> None:
    options: dict[str, Any] = {"n_ctx": n_ctx, "type_k": cache_type, "type_v": cache_type, "flash_attn": flash_attn}
    with TriMode(q8_gguf, n_threads=1, **options) as model:
        allocated = model.memory
    for source in (checkpoint_dir, q8_gguf):
        *_, cpu = measure(model_shape(source), n_parallel=1, n_batch=512, **options)
        assert cpu["kv_cache"] == pytest.approx(allocated["kv_cache"], rel=TOLERANCE)
        assert cpu["compute"] == pytest.approx(allocated["compute"], rel=TOLERANCE)


def test_memory_is_that_of_all_slots_and_of_full_passes(odd_checkpoint: Path, tmp_path: Path) -> None:
    file = convert(odd_checkpoint, tmp_path / "odd.gguf", "q8_0").path
    *_, planned = measure(
        model_shape(odd_checkpoint), n_ctx=768, n_parallel=3, n_batch=256, type_k="f16", type_v="q8_0"
    )
    engine = _native.Engine(
        _native.Model(str(file), lora_path=str(lora_path(file))), n_ctx=768, n_batch=256, n_threads=1, n_parallel=3,
        type_k="f16", type_v="q8_0",
    )  # fmt: skip
    for mode in ("self-spec", "diffusion", "ar"):
        prompt = [1 + i % 700 for i in range(200)]
        engine.submit(prompt, _native.RequestOptions(mode=mode, max_tokens=40, block_length=32))
    for _ in range(8):
        engine.step()
    used = engine.memory  # passes of 256 rows, blocks of 32: the buffers have not grown
    assert planned["kv_cache"] == pytest.approx(used["kv_cache"], rel=TOLERANCE)
    assert planned["compute"] == pytest.approx(used["compute"], rel=TOLERANCE)


RESIDENT = """
import sys
from pathlib import Path
from pytrimode import TriMode

def resident():
    (line,) = [l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("RssAnon")]
    return int(line.split()[1]) * 1024

with TriMode(sys.argv[1], n_ctx=256, n_threads=1, use_mmap=False): pass
before = resident()
model = TriMode(sys.argv[1], n_ctx=int(sys.argv[2]), n_threads=1, use_mmap=False)
print(resident() - before, model.memory["compute"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_weights_and_cache_are_what_the_process_grows_by(tmp_path: Path) -> None:
    n_ctx = 16384
    checkpoint = make_checkpoint(
        tmp_path / "big", hidden=1024, layers=4, heads=8, kv_heads=4, head_dim=128, ffn=2048, vocab=8192, lora_rank=64
    )
    file = convert(checkpoint, tmp_path / "big.gguf", "q8_0").path
    script = [sys.executable, "-c", RESIDENT, str(file), str(n_ctx)]
    grown, compute = map(int, subprocess.run(script, capture_output=True, text=True, check=True).stdout.split())
    *_, planned = measure(model_shape(checkpoint), n_ctx=n_ctx, n_parallel=1, n_batch=512, type_k="f16", type_v="f16")
    assert planned["compute"] == compute  # not touched before the first pass: not resident yet
    assert planned["weights"] + planned["kv_cache"] == pytest.approx(grown, rel=TOLERANCE)


# --- Speeds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", comparisons(), ids=lambda row: f"{row.setting}: {row.mode}")
def test_speeds_are_within_a_quarter_of_what_was_published(row: Comparison) -> None:
    assert abs(row.error) <= 0.25


def test_acceptance_has_the_published_shape() -> None:
    """Tokens per cycle by block length, 8B with LoRA."""
    published = {4: 3.67, 8: 6.36, 16: 10.2, 32: 15.5}
    acceptance = acceptance_from(published[32] / 2)
    for block_length, tokens in published.items():
        assert tokens_per_cycle(acceptance, block_length) == pytest.approx(tokens, rel=0.08)
    assert tokens_per_cycle(1.0, 8) == 8
    assert tokens_per_cycle(0.0, 8) == 1


def test_speed_follows_bandwidth_at_one_row_and_rate_at_many() -> None:
    load = Load(layers=0, params=10**9, n_bytes=10**9)
    slow, fast = CARDS["Apple M1 Max"], CARDS["Apple M2 Ultra"]
    assert pass_seconds(slow, load, 1) == pytest.approx(2 * pass_seconds(fast, load, 1))
    assert pass_seconds(slow, load, 512) == pytest.approx(27.2 / 10.4 * pass_seconds(fast, load, 512), rel=0.02)
    assert speeds(slow, load).block_length < speeds(CARDS["H100 80GB"], load).block_length
    assert speeds(slow, load, lora=False).self_spec < speeds(slow, load, lora=True).self_spec


# --- Text in, text out -----------------------------------------------------------------------------------------------


def test_a_gb_is_a_thousand_millions_and_a_gib_is_two_to_the_thirtieth() -> None:
    assert parse_size("24GB") == parse_size("24 g") == 24 * 10**9
    assert parse_size("24GiB") == parse_size("24 gi") == 24 * GIB
    assert parse_size("1.5TiB") == 3 << 39
    assert (memory_text(5 * GIB), size_text(5 * GIB)) == ("5.00 GiB", "5.37 GB")
    assert [memory_text(n) for n in (12, 1536, 3 << 19)] == ["12 B", "1.5 KiB", "1.5 MiB"]
    assert [size_text(n) for n in (12, 1500, 1_500_000)] == ["0.0 kB", "1.5 kB", "1.50 MB"]
    for wrong in ("GB", "-1GB", "24XB", "1e3GB", "24GBB"):
        with pytest.raises(ValueError, match="is not a size: write it as"):
            parse_size(wrong)
    with pytest.raises(ValueError, match="vram '24': no device has so little memory: write it as 24GiB"):
        plan("3B", vram="24")


def test_cards_are_found_by_part_of_their_name() -> None:
    assert find_card("m4max").name == "Apple M4 Max"
    assert find_card("rtx 4070").name == "RTX 4070"
    with pytest.raises(ValueError, match="several match; cards: A100 40GB, A100 80GB"):
        find_card("a100")
    with pytest.raises(ValueError, match="not known; cards: RTX 3060"):
        find_card("voodoo 2")


@pytest.mark.parametrize("size", BUILT_IN)
def test_plan_prints_a_choice_and_marks_estimates(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", size, "--vram", "24GiB", "--ctx", "32768", "-np", "1"]) == 0
    out = capsys.readouterr().out
    assert "choose   q8_0 weights, f16 cache" in out
    assert "ESTIMATES, not measurements" in out
    assert "asked from CPU" in out
    assert "RTX 5090" in out
    assert "(128 KiB" not in out


def test_plan_prints_json(q8_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(q8_gguf), "--vram", "1GiB", "--margin", "0.1GiB", "--card", "RTX 3090", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["choice"]["quantization"] == AS_STORED
    assert found["choice"]["weights"] == weight_bytes(model_shape(q8_gguf), "q8_0").total
    assert [entry["card"]["name"] for entry in found["cards"]] == ["RTX 3090"]
    assert set(found["kv_cache"]) == set(CACHE_TYPES)


def test_plan_without_a_model_compares_the_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--card", "4070 Ti", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["model"].rpartition("-")[2] for entry in found] == list(BUILT_IN)
    assert all(entry["vram"] == 16 * GIB for entry in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["99B"], "99B: no such file; give 3B, 8B, 14B, a GGUF file or a checkpoint directory"),
        (["8B", "--vram", "lots"], "'lots' is not a size: write it as 500M, 20G or 20GiB"),
        (["8B", "--card", "voodoo"], "card 'voodoo': not known"),
        (["8B", "-c", "99999999"], "the cache can have at most 16777216 cells"),
    ],
)
def test_wrong_input_is_named_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", *arguments]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_directory_or_file_that_is_no_model_is_refused(tmp_path: Path, tiny_gguf: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        plan(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="not a tri-mode model"):
        plan(tmp_path)
    with pytest.raises(ValueError, match=r"general\.type is 'adapter', expected 'model'"):
        plan(lora_path(tiny_gguf("q8_0")))


# --- How much goes to the GPU ----------------------------------------------------------------------------------------


def test_gpu_layers_are_a_number_all_or_auto(q8_gguf: Path) -> None:
    assert [parse_gpu_layers(text) for text in (7, "7", "all", "auto")] == [7, 7, -1, "auto"]
    with pytest.raises(ValueError, match="n_gpu_layers 'some': expected a number of layers, all or auto"):
        TriMode(q8_gguf, n_gpu_layers="some")
    for limit in range(8):
        assert most_that_fit(7, lambda n, limit=limit: n <= limit) == min(limit, 7)  # type: ignore[misc]


def test_without_a_gpu_every_offload_option_runs_on_the_cpu(q8_gguf: Path, model: TriMode) -> None:
    tokens = model.tokenize("What is 12 + 30?")
    expected = model.logits(tokens)
    with TriMode(q8_gguf, n_ctx=256, n_threads=1, n_gpu_layers="auto", split_mode="none", tensor_split=[3, 1]) as other:
        assert other.n_gpu_layers == 0
        assert (other.logits(tokens) == expected).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_mode": "row"}, 'split_mode: "row" is not known; modes: none, layer'),
        ({"tensor_split": [0.0, 0.0]}, "tensor_split: all shares are 0"),
        ({"tensor_split": [-1.0]}, "tensor_split: a share is -1"),
        ({"tensor_split": [1.0] * 99}, "tensor_split: 99 shares; at most"),
    ],
)
def test_impossible_devices_are_refused(q8_gguf: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TriMode(q8_gguf, **options)


@pytest.mark.parametrize(
    "arguments",
    [["-ngl", "all", "-ctk", "q8_0", "-fa", "auto"], ["-ngl", "2", "-ct", "q8_0", "-ctv", "f16", "-sm", "none"]],
)
def test_commands_take_llama_cpps_names(
    q8_gguf: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["generate", str(q8_gguf), "-p", "What is 12 + 30?", "-n", "4", "-t", "1", "-c", "256", "--temp", "0"]
    assert run([*common, *arguments]) == 0
    text = capsys.readouterr().out
    with TriMode(q8_gguf, n_ctx=256, n_threads=1, type_k="q8_0") as model:
        expected: Any = model.create_completion("What is 12 + 30?", max_tokens=4, temperature=0.0)
    assert text == expected["choices"][0]["text"]


@pytest.mark.parametrize(("option", "value"), [("-ngl", "some"), ("-ts", "a,b")])
def test_a_wrong_value_names_the_option(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", option, value]) == 2
    assert f"'{option}'" in (err := capsys.readouterr().err) and value in err


# --- This CPU --------------------------------------------------------------------------------------------------------


def test_the_weights_of_a_pass_are_all_but_the_embedding() -> None:
    shape = BUILT_IN["3B"]
    for quantization in ("q8_0", "q4_k_m"):
        matrices = cpu.params_by_type(shape, quantization)
        assert sum(matrices.values()) == pytest.approx(
            weight_bytes(shape, quantization).params - shape.hparams.vocab_size * shape.hparams.hidden, rel=1e-3
        )
    assert len(cpu.params_by_type(shape, "q4_k_m")) > 1


def test_this_cpu_is_measured(
    q8_gguf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "COLUMNS", 1024)
    monkeypatch.setattr(cpu, "OUTPUTS", 512)
    cpu.seconds_per_weight.cache_clear()
    try:
        assert run(["plan", str(q8_gguf), "--cpu", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["cpu"]
        assert {"q8_0", "q4_k_m", AS_STORED} <= set(found)
        for speeds_here in found.values():
            assert speeds_here["ar"] > 0
            # A pass of 32 rows takes longer than one of a row, and a block is a pass and gives so many tokens at most.
            assert speeds_here["diffusion"] < speeds_here["ar"] * 32
        assert run(["plan", str(q8_gguf), "--cpu"]) == 0
        assert "measured just now" in capsys.readouterr().out
        assert run(["plan", "--cpu"]) == 2
        assert "give a MODEL" in capsys.readouterr().err
    finally:
        cpu.seconds_per_weight.cache_clear()
