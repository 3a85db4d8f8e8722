"""trimode-quantize eval: figures against independent ones, and what an interruption leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from llama_cpp import Llama
from numpy.typing import NDArray
from support.convert_helpers import files_in
from support.quantize_helpers import COMMAND, N_CHUNKS, N_CTX, PROMPTS, QUICK

from pytrimode import TriMode
from pytrimode.gguf.file_names import lora_path
from pytrimode.quantize import cli, quantize
from pytrimode.quantize.evaluation.evaluation import evaluate, evaluation_text
from pytrimode.quantize.evaluation.report import markdown
from pytrimode.quantize.evaluation.results import EvaluatedFile, Evaluation
from pytrimode.quantize.evaluation.rows import CAUSAL, DRAFT, ROWS_PER_PASS, TextPlan, block_kind, plan_text
from pytrimode.quantize.evaluation.scores import LogProbs, score
from pytrimode.quantize.importance.calibration import calibration_text

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluation(q8_gguf: Path, q4_gguf: Path, unseen: str) -> Evaluation:
    """Q8_0 as the base, against itself and against Q4_0."""
    return evaluate(q8_gguf, [q8_gguf, q4_gguf], text=unseen, options=QUICK)


def stock_nll(gguf: Path, text: str) -> NDArray[np.float64]:
    """llama.cpp's perplexity: chunks that begin with bos, the second half of each counts; with flash attention."""
    llama = Llama(
        str(gguf), n_ctx=N_CTX, n_batch=N_CTX, n_threads=1, n_threads_batch=1, logits_all=True, flash_attn=True,
        verbose=False,
    )  # fmt: skip
    tokens = llama.tokenize(text.encode(), add_bos=True)
    found = []
    for i in range(N_CHUNKS):
        chunk = [llama.token_bos(), *tokens[i * N_CTX + 1 : (i + 1) * N_CTX]]
        llama.reset()
        llama.eval(chunk)
        rows = np.array(llama.scores[N_CTX // 2 : N_CTX - 1], np.float64)
        p = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
        found += [-np.log(p[j, chunk[N_CTX // 2 + j + 1]]) for j in range(len(rows))]
    return np.array(found)


def test_perplexity_is_that_of_llama_cpp(evaluation: Evaluation, q8_gguf: Path, q4_gguf: Path, unseen: str) -> None:
    for file, gguf in ((evaluation["files"][0], q8_gguf), (evaluation["files"][2], q4_gguf)):
        nll = stock_nll(gguf, unseen)
        expected = np.exp(nll.mean())
        error = expected * np.sqrt(((nll**2).mean() - nll.mean() ** 2) / (len(nll) - 1))
        figures = file["rows"]["causal"]
        assert figures["rows"] == len(nll) == N_CHUNKS * (N_CTX // 2 - 1)
        # Our products and attention on the CPU round activations in places of their own.
        assert figures["perplexity"] == pytest.approx(expected, rel=5e-3)
        assert figures["perplexity_error"] == pytest.approx(error, rel=1e-2)
        assert 1 < expected < 500


def all_rows(file: EvaluatedFile) -> dict[str, Any]:
    return {**file["rows"], **{name: rows for adapter in file["adapters"] for name, rows in adapter["rows"].items()}}


def test_a_file_does_not_differ_from_itself(evaluation: Evaluation) -> None:
    base, same, _ = evaluation["files"]
    assert list(all_rows(same)) == ["causal", "block 0.5", "draft", "draft, LoRA"]
    for name, rows in all_rows(same).items():
        assert (rows["kld"], rows["kld_99"], rows["kld_max"], rows["same_top"]) == (0, 0, 0, 1)
        assert rows["perplexity"] == all_rows(base)[name]["perplexity"]
        assert all_rows(base)[name]["kld"] is None
    assert all(found["as_base"] == 1 for found in same["answers"].values())
    assert base["answers"]["ar"]["as_base"] is None


def log_softmax(logits: NDArray[np.float32], without: int | None = None) -> NDArray[np.float64]:
    rows = logits.astype(np.float64)
    if without is not None:
        rows = np.delete(rows, without, axis=1)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("kind", ["causal", "block 0.5", "draft, LoRA"])
def test_divergence_is_that_of_the_exact_logits(
    evaluation: Evaluation, q8_gguf: Path, q4_gguf: Path, unseen: str, kind: str
) -> None:
    """Whole chunks in one call, in double precision, without what the cache holds."""
    klds: list[NDArray[np.float64]] = []
    same: list[NDArray[np.bool_]] = []
    with TriMode(q8_gguf, n_ctx=1024, n_threads=1) as base, TriMode(q4_gguf, n_ctx=1024, n_threads=1) as other:
        plan = text_plan(base, unseen)
        of = {"causal": CAUSAL, "block 0.5": block_kind(0.5)}.get(kind, DRAFT)
        for number in range(N_CHUNKS):
            for piece in plan.pieces(of, number):
                rows = [piece.first + i for i in piece.rows]
                p, q = (
                    log_softmax(
                        model.logits(piece.tokens, block_start=piece.block_start, lora="LoRA" in kind)[rows],
                        None if kind == "causal" else model.mask_token_id,
                    )
                    for model in (base, other)
                )
                klds.append((np.exp(p) * (p - q)).sum(axis=1))
                same.append(p.argmax(axis=1) == q.argmax(axis=1))
    expected = np.concatenate(klds)
    found = all_rows(evaluation["files"][2])[kind]
    assert found["rows"] == len(expected)
    assert found["kld"] == pytest.approx(expected.mean(), rel=1e-3)
    assert found["kld_99"] == pytest.approx(np.quantile(expected, 0.99), rel=1e-2)
    assert found["kld_error"] == pytest.approx(expected.std() / np.sqrt(len(expected) - 1), rel=1e-2)
    assert found["same_top"] == pytest.approx(np.concatenate(same).mean(), abs=2 / len(expected))
    assert found["kld"] > 1e-3, "four bits must differ from eight"


def text_plan(model: TriMode, text: str, **changes: Any) -> TextPlan:
    options = {"n_ctx": N_CTX, "max_chunks": N_CHUNKS, "block_length": 16, "seed": 0} | changes
    return plan_text(model, model.tokenize(text), **options)


def test_blocks_cover_the_second_half_with_as_many_masks_as_asked(model: TriMode, unseen: str) -> None:
    plan = text_plan(model, unseen)
    mask = model.mask_token_id
    for ratio, n_masked in ((0.25, 4), (0.5, 8), (0.75, 11), (1.0, 15)):
        pieces = plan.pieces(replace(DRAFT, mask_ratio=ratio), 1)
        assert [piece.block_start for piece in pieces] == list(range(N_CTX - 16, N_CTX // 2 - 1, -16))
        for piece in pieces:
            assert piece.block_start == piece.first
            block, clean = piece.tokens[piece.first :], plan.chunks[1][piece.first : piece.first + 16]
            assert piece.tokens[: piece.first] == plan.chunks[1][: piece.first]
            assert block[0] == clean[0]
            assert [i for i, token in enumerate(block) if token == mask] == piece.rows
            assert piece.targets == [clean[i] for i in piece.rows]
            assert len(piece.rows) == n_masked
    assert plan.pieces(block_kind(0.5), 0) != text_plan(model, unseen, seed=1).pieces(block_kind(0.5), 0)


def test_few_rows_are_in_memory_at_a_time(model: TriMode, unseen: str) -> None:
    """n_ctx rows of 131,072 logits would take 256 MiB for 512 tokens."""
    plan = text_plan(model, unseen, n_ctx=512, block_length=32, max_chunks=1)
    for kind in (CAUSAL, DRAFT):
        assert all(len(piece.tokens) - piece.first <= ROWS_PER_PASS for piece in plan.pieces(kind, 0))
    rows = [row for piece in plan.pieces(CAUSAL, 0) for row in range(piece.first, len(piece.tokens))]
    assert rows == list(range(256, 511))


def test_sixteen_bits_keep_log_probabilities() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (5, 3000)).astype(np.float32)
    logits[4] = 1.5
    packed = LogProbs.of(logits)
    assert np.abs(packed.values() - log_softmax(logits)).max() < 40 / 65535
    assert np.allclose(np.exp(packed.values()).sum(axis=1), 1, atol=1e-5)
    again = LogProbs.from_bytes(packed.to_bytes())
    assert np.array_equal(again.values(), packed.values())
    assert len(packed.to_bytes()) < 2 * logits.size + 100
    scores, _ = score(logits, [0, 1, 2, 3, 4], packed)
    assert np.array_equal(scores.kld, np.zeros(5))
    logits[2, 7] = np.nan
    with pytest.raises(RuntimeError, match="not finite"):
        LogProbs.of(logits)


def test_answers_are_those_of_create_completion(evaluation: Evaluation, q4_gguf: Path) -> None:
    """Counters and shares, from the public API."""
    with TriMode(q4_gguf, n_ctx=1024, n_threads=1) as model:
        prompts = [model.chat_tokens([{"role": "user", "content": prompt}]) for prompt in PROMPTS]

        def answers(**options: Any) -> tuple[list[str], dict[str, float]]:
            found = [model.create_completion(p, max_tokens=24, temperature=0.0, **options) for p in prompts]
            timings = [answer["timings"] for answer in found]  # type: ignore[index,call-overload]
            return [answer["choices"][0]["text"] for answer in found], {  # type: ignore[index,call-overload]
                key: sum(timing[key] for timing in timings) for key in timings[0]
            }

        ar, _ = answers(mode="ar")
        diffusion, _ = answers(mode="diffusion", block_length=16, threshold=0.9)
        file = evaluation["files"][2]
        for figures, use_lora in ((file["answers"], False), (file["adapters"][0]["answers"], True)):
            texts, sums = answers(mode="self-spec", block_length=16, use_lora=use_lora)
            found = figures["self-spec"]
            assert texts == ar
            assert found["as_ar"] == 1
            assert found["tokens"] == sums["predicted_n"]
            assert found["forward_passes"] == sums["forward_passes"]
            assert found["tokens_per_forward"] == sums["predicted_n"] / sums["forward_passes"]
            assert found["accepted"] == sums["draft_n_accepted"] > 0
            assert found["acceptance_length"] == 1 + sums["draft_n_accepted"] / found["cycles"]
            assert found["cycles"] >= sums["forward_passes"] / 2
        assert file["answers"]["diffusion 0.9"]["as_ar"] == sum(map(str.__eq__, ar, diffusion)) / len(ar)


def test_speed_is_measured_on_request(q8_gguf: Path, q4_gguf: Path, unseen: str) -> None:
    options = replace(QUICK, max_chunks=1, mask_ratios=(), thresholds=(), speed_rounds=2, max_tokens=2)
    base, other = evaluate(q8_gguf, [q4_gguf], text=unseen, loras=[], options=options)["files"]
    assert base["speed"] is None
    assert other["speed"] is not None
    assert 0 < other["speed"]["lowest"] <= other["speed"]["median"] <= other["speed"]["highest"]
    assert list(other["answers"]) == ["ar", "self-spec"]
    assert other["adapters"] == []


# --- Interruptions -------------------------------------------------------------------------------------------------


def n_passes(model: TriMode, text: str) -> int:
    """Passes over the text for one file with a drafter LoRA."""
    plan = text_plan(model, text)
    kinds = (CAUSAL, block_kind(0.5), DRAFT, DRAFT)
    return sum(len(plan.pieces(kind, number)) for kind in kinds for number in range(N_CHUNKS))


def test_an_interrupted_evaluation_goes_on_where_it_was(
    evaluation: Evaluation, model: TriMode, q8_gguf: Path, q4_gguf: Path, unseen: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Stopped in rows and in answers, of the base and of others; nothing is computed twice."""
    passes = asked = 0
    logits, run_many = TriMode.logits, TriMode.run_many

    def counted_logits(self: TriMode, *args: Any, **options: Any) -> NDArray[np.float32]:
        nonlocal passes
        passes += 1
        return logits(self, *args, **options)

    def counted_requests(self: TriMode, *args: Any) -> Any:
        nonlocal asked
        asked += 1
        return run_many(self, *args)

    monkeypatch.setattr(TriMode, "logits", counted_logits)
    monkeypatch.setattr(TriMode, "run_many", counted_requests)

    def run(n_steps: int) -> Evaluation | None:
        steps = 0

        def stop(what: str, done: int, total: int) -> None:
            nonlocal steps
            steps += 1
            if steps == n_steps:
                raise KeyboardInterrupt

        try:
            store = tmp_path / "base.logits"
            return evaluate(q8_gguf, [q8_gguf, q4_gguf], text=unseen, options=QUICK, base_logits=store, progress=stop)
        except KeyboardInterrupt:
            return None

    assert [run(n) for n in (1, 4, 11, 24, 45)] == [None] * 5
    assert run(-1) == evaluation
    # The answers of the base are those of the same file among the others.
    assert (passes, asked) == (3 * n_passes(model, unseen), 2 * 4 * len(PROMPTS))
    assert run(-1) == evaluation
    assert (passes, asked) == (3 * n_passes(model, unseen), 2 * 4 * len(PROMPTS))


def test_a_killed_evaluation_goes_on(evaluation: Evaluation, files: Files, tmp_path: Path) -> None:
    """SIGKILL while rows of the base are being saved."""
    store = tmp_path / "base.logits"
    command = [*COMMAND, "eval", *files.arguments, "--base-logits", str(store), "--json"]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not store.exists() or store.stat().st_size < 200_000:
        assert killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["files"] == evaluation["files"]
    assert found["about"] == {**evaluation["about"], "text": "text.txt"}
    assert files_in(tmp_path) == {"base.logits"}


def test_more_chunks_and_files_use_what_is_there(
    evaluation: Evaluation, q8_gguf: Path, q4_gguf: Path, unseen: str, tmp_path: Path
) -> None:
    few = replace(QUICK, max_chunks=1)
    evaluate(q8_gguf, text=unseen, options=few, base_logits=tmp_path / "base.logits")
    found = evaluate(q8_gguf, [q8_gguf, q4_gguf], text=unseen, options=QUICK, base_logits=tmp_path / "base.logits")
    assert found == evaluation


# --- Drafter LoRAs -------------------------------------------------------------------------------------------------


def test_every_adapter_has_its_line(q8_gguf: Path, checkpoint_dir: Path, unseen: str, tmp_path: Path) -> None:
    """Drafts of coarser adapters differ more from the base's with the first; what is emitted does not."""
    adapters = []
    for outtype in ("f32", "q8_0", "q4_0"):
        out = tmp_path / f"{outtype}.gguf"
        quantize(q8_gguf, out, "copy", lora_type=outtype)
        adapters.append(lora_path(out))
    found = evaluate(q8_gguf, loras=adapters, text=unseen, options=QUICK)
    first, second, third = found["files"][0]["adapters"]
    assert [adapter["type"] for adapter in (first, second, third)] == ["f32", "q8_0", "q4_0"]
    assert first["bytes"] > second["bytes"] > third["bytes"]
    assert second["bits_per_weight"] < 20
    klds = [adapter["rows"]["draft, LoRA"]["kld"] for adapter in (first, second, third)]
    assert klds[0] is None
    assert klds[1] is not None
    assert klds[2] is not None
    assert 0 < klds[1] < klds[2]
    assert all(adapter["answers"]["self-spec"]["as_ar"] == 1 for adapter in (first, second, third))
    rows = markdown(found).splitlines()
    assert any(row.startswith("| q4_0-drafter-lora.gguf | ") for row in rows)
    assert sum(row.startswith("| ") for row in rows) == 1 + 3


# --- The command ---------------------------------------------------------------------------------------------------


@dataclass
class Files:
    """Arguments of a quick evaluation."""

    arguments: list[str]


@pytest.fixture
def files(q8_gguf: Path, q4_gguf: Path, unseen: str, tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("eval")
    (directory / "text.txt").write_text(unseen)
    (directory / "prompts.json").write_text(json.dumps({"all": PROMPTS}))
    given = (
        f"-c {N_CTX} --chunks {N_CHUNKS} --mask-ratios 0.5 --thresholds 0.9 -B 16 -n 24 --speed-rounds 0 -t 1 -ngl 0"
    )
    return Files([
        str(q8_gguf), str(q8_gguf), str(q4_gguf), "-f", str(directory / "text.txt"),
        "--prompts", str(directory / "prompts.json"), *given.split(), "-ngl", "0",
    ])  # fmt: skip


def test_one_table_on_stdout_and_a_card(evaluation: Evaluation, files: Files, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["eval", *files.arguments, "--card", str(tmp_path / "README.md")])
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    rows = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert rows[0] == (
        "| file | size | bits | PPL | causal | block 0.5 | draft | draft, LoRA | tokens/cycle | tokens/forward "
        "| ar: as base | diffusion 0.9 |"
    )
    assert len(rows) == 2 + 3
    assert rows == [line for line in markdown(evaluation).splitlines() if line.startswith("|")]
    same = rows[3].split(" | ")
    assert same[4:8] == ["0 (0), 100.0 %"] * 4
    assert "100.0 % as base" in same[-1]
    assert rows[4] in (tmp_path / "README.md").read_text()


def test_ctrl_c_says_how_to_go_on(files: Files, tmp_path: Path) -> None:
    store = tmp_path / "base.logits"
    command = [*COMMAND, "eval", *files.arguments, "--base-logits", str(store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not store.exists() or store.stat().st_size < 200_000:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "")
    assert stderr == f"Interrupted: the same command goes on from {store}.\n"


def test_the_text_that_ships_is_not_the_calibration_text() -> None:
    known = {line for line in calibration_text().splitlines() if len(line) > 60}
    lines = [line for line in evaluation_text().splitlines() if len(line) > 60]
    assert len(lines) > 100
    assert not known.intersection(lines)
