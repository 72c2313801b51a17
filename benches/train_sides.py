"""Our trainers against plain scripts of the standard ones: the same texts, LoRA, batch and precision; sides alternate, a process each.

Knows requests and ratios; the loops are in `benches.train_workers`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from benches.models import SMALL, ensure_decoder, ensure_encoder
from benches.paths import LOG_DIR, ROOT, BenchError, read_tail
from benches.report import Samples
from benches.tools import ensure_python_peer
from bot.data import load_demo_tickets
from bot.models.default import find_package_model

PACKAGES: Final = ("sentence-transformers", "trl", "datasets")


@dataclass(frozen=True)
class SidesSize:
    """Examples, epochs and rounds of a comparison."""

    encoder_examples: int = 500
    encoder_epochs: int = 1
    decoder_examples: int = 96
    rounds: int = 3


def get_peer_versions() -> dict[str, str]:
    """Return the versions of the peers' packages."""
    found = {one.metadata["Name"].lower(): one.version for one in distributions(path=[str(ensure_python_peer("training"))])}
    return {name: found[name] for name in PACKAGES if name in found}


def bench_encoder(size: SidesSize, *, threads: int) -> dict[str, Any]:
    """Return examples per second of both sides, the peer's also with batches of similar length, and peak memory."""
    request = build_encoder_request(size, threads=threads)
    samples = Samples()
    for _ in range(size.rounds):
        for name, side, sampling in (
            ("ours", "encoder_ours", ""),
            ("peer", "encoder_peer", "random"),
            ("peer_by_length", "encoder_peer", "group_by_length"),
        ):
            answer = run_worker(side, {**request, "sampling": sampling})
            samples.add(name, size.encoder_epochs * len(request["texts"]) / answer["seconds"])
            samples.add(f"{name}_rss", answer["peak_rss_bytes"])
    return build_encoder_figures(samples)


def build_encoder_figures(samples: Samples) -> dict[str, Any]:
    """Return the medians of the rounds and the median of their ratios."""
    found = samples.medians()
    return {
        "encoder_examples_per_s": found["ours"],
        "encoder_examples_per_s_peer": found["peer"],
        "encoder_examples_per_s_peer_by_length": found["peer_by_length"],
        "encoder_ratio_vs_peer": samples.ratio("ours", "peer"),
        "encoder_ratio_vs_peer_by_length": samples.ratio("ours", "peer_by_length"),
        "encoder_peak_rss_bytes": found["ours_rss"],
        "encoder_peak_rss_bytes_peer": found["peer_rss"],
        "encoder_runs": samples.runs(),
    }


def bench_decoder(size: SidesSize, *, threads: int) -> dict[str, Any]:
    """Return tokens per second of both sides, counted alike: every ticket's whole prompt and answer; and peak memory."""
    from benches.train_workers import count_decoder_tokens

    request = build_decoder_request(size, threads=threads)
    n_tokens = count_decoder_tokens(request)
    samples = Samples()
    for _ in range(size.rounds):
        for name in ("ours", "peer"):
            answer = run_worker(f"decoder_{name}", request)
            samples.add(name, n_tokens / answer["seconds"])
            samples.add(f"{name}_rss", answer["peak_rss_bytes"])
    found = samples.medians()
    return {
        "decoder_tokens_per_s": found["ours"],
        "decoder_tokens_per_s_trl": found["peer"],
        "decoder_ratio_vs_trl": samples.ratio("ours", "peer"),
        "decoder_peak_rss_bytes": found["ours_rss"],
        "decoder_peak_rss_bytes_trl": found["peer_rss"],
        "decoder_tokens_per_example": n_tokens / len(request["texts"]),
        "decoder_runs": samples.runs(),
    }


def build_encoder_request(size: SidesSize, *, threads: int) -> dict[str, Any]:
    """Return the encoder's training: the deployment's defaults on real tickets."""
    texts, labels, names = _load_examples(size.encoder_examples)
    recipe = {"r": 16, "lora_alpha": 32, "batch_size": 16, "train_tokens": 128, "epochs": size.encoder_epochs}
    data = {"texts": texts, "labels": labels, "names": names}
    return {"base": str(ensure_encoder()), "folder": str(find_package_model()), "threads": threads, **recipe, **data}


def build_decoder_request(size: SidesSize, *, threads: int) -> dict[str, Any]:
    """Return the decoder's training: a small random model with a real vocabulary, one pass."""
    texts, labels, names = _load_examples(size.decoder_examples)
    recipe = {"r": 16, "lora_alpha": 32, "batch_size": 8, "train_tokens": 512, "epochs": 1}
    return {"base": str(ensure_decoder(SMALL)), "threads": threads, **recipe, "texts": texts, "labels": labels, "names": names}


def _load_examples(count: int) -> tuple[list[str], list[int], list[str]]:
    tickets = load_demo_tickets().stream[:count]
    names = sorted({ticket.label for ticket in tickets})
    return [ticket.text for ticket in tickets], [names.index(ticket.label) for ticket in tickets], names


def run_worker(side: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Train once in a process of its own and return its seconds and peak memory. Raises BenchError."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    folders = [str(ROOT)] if side.endswith("_ours") else [str(ensure_python_peer("training")), str(ROOT)]
    env = {**inherited, "PYTHONPATH": os.pathsep.join(folders), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    env |= {"OMP_NUM_THREADS": str(request["threads"]), "TOKENIZERS_PARALLELISM": "false"}
    log = LOG_DIR / f"train-{side}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, log.open("w") as errors:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps({**request, "work": folder}), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - the command is our own
            [sys.executable, "-m", "benches.train_workers", side, str(path)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=env,
            check=False,
        )
    if done.returncode != 0 or not done.stdout.strip():
        message = f"the training '{side}' ended with code {done.returncode} ({log})\n{read_tail(log)}"
        raise BenchError(message)
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer
