"""One training by one trainer in a process of its own: reads a request (JSON) from a file, prints one line of figures (JSON).

Run by `benches.train_sides`; peers' packages are on PYTHONPATH for peers alone. Only the loop is timed, not the loading of models.
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

Request = Mapping[str, Any]


def train_encoder_ours(request: Request) -> float:
    """Run one stage of our own loop and return its seconds."""
    learner, data, settings = build_encoder(request, mode="faithful")
    started = time.perf_counter()
    run_encoder(learner, data, settings)
    return time.perf_counter() - started


def build_encoder(request: Request, *, mode: Literal["nf4", "faithful"]) -> tuple[Any, Any, Any]:
    """Return the encoder's learner, its data and its settings, as a request says."""
    import numpy as np
    import torch

    from bot.engine.head import ZERO_SHOT_SCALE
    from training.encoder.base import load_base
    from training.encoder.loop import Learner, TrainData
    from training.encoder.served import ServedEncoder
    from training.encoder.settings import EncoderSettings
    from training.qlora import add_lora, build_lora_config, find_linears

    recipe = {name: request[name] for name in ("r", "lora_alpha", "epochs", "batch_size", "train_tokens", "threads")}
    settings = EncoderSettings(mode=mode, precision="fp32", **recipe)
    path = Path(request["base"])
    model = load_base(path)
    with ServedEncoder(path, text_tokens=settings.text_tokens, n_threads=settings.threads) as served:
        sequences = [served.tokenize(text, limit=settings.train_tokens) for text in request["texts"]]
        pooling, n_embd = served.pooling, served.n_embd
    config = build_lora_config(r=settings.r, lora_alpha=settings.lora_alpha, target_modules=find_linears(model))
    n, n_labels = len(sequences), max(request["labels"]) + 1
    data = TrainData(sequences, torch.tensor(request["labels"]), torch.ones(n), torch.zeros(n, dtype=torch.bool))
    start = torch.from_numpy(np.zeros((n_labels, n_embd), np.float32)) * ZERO_SHOT_SCALE, torch.zeros(n_labels)
    is_fixed = torch.zeros(n_labels, dtype=torch.bool)
    wrapped = add_lora(model, mode=mode, config=config)
    return Learner(wrapped, start, is_fixed=is_fixed, pooling=pooling, settings=settings), data, settings


def run_encoder(learner: Any, data: Any, settings: Any) -> None:
    """Run one stage over all of the data."""
    from training.encoder.loop import Stage, run_stage

    stage = Stage("bench", tuple(range(len(data.sequences))), settings.epochs)
    run_stage(learner, data, stage, number=0, first_step=0, settings=settings, on_step=lambda *_: True)


def train_encoder_peer(request: Request) -> float:
    """Run sentence-transformers' Trainer with LoRA through PEFT on all linear layers and return its seconds."""
    from datasets import Dataset  # type: ignore[import-not-found]
    from peft import LoraConfig, TaskType
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import BatchAllTripletLoss

    from training.qlora import find_linears

    model = SentenceTransformer(request["folder"], device="cpu")
    model.max_seq_length = request["train_tokens"]
    inner = model[0].auto_model
    names = find_linears(inner, skip=("pooler.dense",))
    model.add_adapter(
        LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=request["r"], lora_alpha=request["lora_alpha"], target_modules=names)
    )
    arguments = SentenceTransformerTrainingArguments(
        num_train_epochs=request["epochs"],
        per_device_train_batch_size=request["batch_size"],
        learning_rate=2e-4,
        train_sampling_strategy=request["sampling"],
        **_build_arguments(request),
    )
    data = Dataset.from_dict({"sentence": request["texts"], "label": request["labels"]})
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=BatchAllTripletLoss(model))
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


def train_decoder_ours(request: Request) -> float:
    """Run one stage of our own loop, many tickets behind one label list, and return its seconds."""
    from training.decoder.loop import run_stage
    from training.decoder.train import build_learner
    from training.encoder.loop import Stage

    settings, prompted = _read_decoder(request)
    learner = build_learner(Path(request["base"]), settings)
    stage = Stage("bench", tuple(range(len(prompted.completions))), request["epochs"])
    started = time.perf_counter()
    run_stage(
        learner,
        prompted.prefix,
        prompted.completions,
        stage=stage,
        first_step=0,
        settings=settings,
        on_step=lambda *_: True,
    )
    return time.perf_counter() - started


def train_decoder_peer(request: Request) -> float:
    """Run TRL's SFTTrainer on the very same tokens, loss on the answers alone, and return its seconds."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]

    from training.decoder.base import load_base
    from training.qlora import find_linears

    path = Path(request["base"])
    _, prompted = _read_decoder(request)
    rows = [
        ([*prompted.prefix, *one.tokens[: one.start + 1]], list(one.answer))  # prompt and answer
        for one in prompted.completions
    ]
    data = Dataset.from_dict(
        {
            "input_ids": [prompt + answer for prompt, answer in rows],
            "completion_mask": [[0] * len(prompt) + [1] * len(answer) for prompt, answer in rows],
        }
    )
    model: Any = load_base(path)
    model.is_quantized = False  # its weights were dequantised while they were read
    config = LoraConfig(
        r=request["r"], lora_alpha=request["lora_alpha"], target_modules=find_linears(model), task_type="CAUSAL_LM"
    )
    arguments = SFTConfig(
        num_train_epochs=request["epochs"],
        per_device_train_batch_size=request["batch_size"],
        learning_rate=2e-4,
        max_length=None,
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=False,
        **_build_arguments(request),
    )
    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer, peft_config=config)
    started = time.perf_counter()
    trainer.train()
    return time.perf_counter() - started


def _build_arguments(request: Request) -> dict[str, Any]:
    """Return what both peers are told alike: nothing saved, logged or evaluated, on the CPU."""
    return {
        "output_dir": request["work"],
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "eval_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "lr_scheduler_type": "linear",
        "warmup_steps": 1,
        "seed": 0,
    }


def _read_decoder(request: Request) -> tuple[Any, Any]:
    """Return the settings of the decoder's trainer, and label set and texts as prefix and completions."""
    from bot.tasks.classification import build_choices
    from bot.types import Label, LabelSet
    from training.decoder.examples import read_choices
    from training.decoder.settings import DecoderSettings
    from training.decoder.tokens import PromptTokens
    from training.encoder.prepare import prepare
    from training.encoder.settings import EncoderSettings
    from training.encoder.types import TrainExample

    labels = [Label(name) for name in request["names"]]
    recipe = {name: request[name] for name in ("r", "lora_alpha", "epochs", "batch_size", "train_tokens", "threads")}
    settings = DecoderSettings(mode="faithful", precision="fp32", learning_rate=2e-4, **recipe)
    examples = [
        TrainExample(text, request["names"][label]) for text, label in zip(request["texts"], request["labels"], strict=True)
    ]
    choices = build_choices(LabelSet(name="bench", version="bench", labels=tuple(labels)))
    with PromptTokens(Path(request["base"]), text_tokens=settings.train_tokens) as reader:
        return settings, read_choices(prepare(examples, labels, EncoderSettings()), choices, reader)


def count_decoder_tokens(request: Request) -> int:
    """Return the tokens of all prompts and answers, each ticket with its own label list, as a plain trainer reads them."""
    _, prompted = _read_decoder(request)
    return sum(len(prompted.prefix) + one.start + 1 + len(one.answer) for one in prompted.completions)


SIDES: Final[dict[str, Callable[[Request], float]]] = {
    "encoder_ours": train_encoder_ours,
    "encoder_peer": train_encoder_peer,
    "decoder_ours": train_decoder_ours,
    "decoder_peer": train_decoder_peer,
}


def main() -> None:
    """Train as the first argument says, with the request in the second one's file; print seconds and peak memory."""
    side, request = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(request["threads"])
    seconds = SIDES[side](request)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_rss_bytes": peak}) + "\n")


if __name__ == "__main__":
    main()
