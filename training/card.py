"""The dataset card of a run: what it learned from and was judged on, in counts and dates, as JSON and as a page to read.

Holds no ticket text, no ids and no names of people; `training.dataset` built what it describes.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot.training_settings import TrainingSettings
from training.dataset import Dataset
from training.dedupe import N_BANDS, N_HASHES, SHINGLE_LETTERS
from training.split import MAX_GROUP_SHARE

CARD_FORMAT = 1


def build_card(
    dataset: Dataset,
    *,
    run_id: int,
    settings: TrainingSettings,
    versions: Mapping[str, str],
    sources: Mapping[str, int],
    kinds: Mapping[str, int],
    questions: Mapping[str, int],
) -> dict[str, Any]:
    """Return the card. `versions` names base, label set and prompt; `sources` and `kinds` count the used examples."""
    report = dataset.report
    used = [*dataset.train, *dataset.validation, *dataset.test]
    times = [item.created_at for item in used]
    weights = Counter(f"{item.weight:g}" for item in dataset.train)
    return {
        "format": CARD_FORMAT,
        "run": run_id,
        "task": dataset.task.value,
        "digest": dataset.digest,
        **versions,
        "created_between": [min(times).isoformat(), max(times).isoformat()] if times else [],
        "n_seen": report.n_seen,
        "splits": {
            "train": report.n_train,
            "train_handoffs": report.n_negative,
            "validation": report.n_validation,
            "test": report.n_test,
            "test_golden": report.n_golden,
            "test_blind": sum(item.is_blind for item in dataset.test),
        },
        "labels": {label: dict(parts) for label, parts in report.balance.items()},
        "sources": dict(sources),
        "kinds": dict(kinds),
        "train_weights": dict(sorted(weights.items(), key=lambda entry: -float(entry[0]))),
        "left_out": dict(report.left_out),
        "unknown_labels": dict(report.unknown_labels),
        "questions": {
            "contradictions": len(report.contradictions),
            "disagreements": len(report.disagreements),
            "new_in_queue": dict(questions),
        },
        "how": _describe_method(settings),
    }


def _describe_method(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "near_duplicates": {
            "threshold": settings.near_duplicate,
            "piece_letters": SHINGLE_LETTERS,
            "minhash_values": N_HASHES,
            "bands": N_BANDS,
        },
        "splits": {
            "order": "within a label the newest groups judge, the next validate, the oldest teach; a split once given never changes",
            "test_share": settings.test_share,
            "validation_share": settings.validation_share,
            "largest_group_share": MAX_GROUP_SHARE,
        },
        "limits": {"max_examples": settings.max_examples, "max_test": settings.max_test},
        "label_check": {
            "action": settings.noise_action,
            "margin": settings.noise_margin,
            "max_examples": settings.noise_max_examples,
        },
        "second_masking": settings.has_second_masking,
        "seed": settings.seed,
    }


def write_card(card: Mapping[str, Any], directory: Path) -> Path:
    """Write dataset.json and dataset.md into a run's folder and return the path of dataset.json; earlier ones are replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "dataset.json"
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / "dataset.md").write_text(render_card(card), encoding="utf-8")
    return path


def render_card(card: Mapping[str, Any]) -> str:
    """Render a card as Markdown."""
    splits = card["splits"]
    lines = [
        f"# Dataset of run {card['run']} ({card['task']})",
        "",
        f"- digest {card['digest']}",
        *(
            f"- {name.replace('_', ' ')}: {card[name]}"
            for name in ("base_digest", "label_set_version", "prompt_version")
            if card.get(name)
        ),
    ]
    if card["created_between"]:
        first, last = card["created_between"]
        lines.append(f"- decided between {first[:10]} and {last[:10]}")
    lines += [
        f"- {splits['train']} examples to learn from and {splits['train_handoffs']} handoffs, {splits['validation']} to validate, "
        f"{splits['test']} to judge ({splits['test_golden']} golden, {splits['test_blind']} blind), of {card['n_seen']} seen",
        "",
    ]
    if card["labels"]:
        lines += ["## Labels", ""]
        parts = list(next(iter(card["labels"].values())))
        lines += _render_table(["label", *parts], [[label, *row.values()] for label, row in card["labels"].items()])
    for title, key in (
        ("Where they come from", "sources"),
        ("What people did", "kinds"),
        ("Weights in training", "train_weights"),
        ("Left out", "left_out"),
        ("Labels that are not in the label set", "unknown_labels"),
    ):
        if card[key]:
            lines += [f"## {title}", "", *_render_table(["", "examples"], [[name, count] for name, count in card[key].items()])]
    questions = card["questions"]
    new = sum(questions["new_in_queue"].values())
    lines += [
        "## To review",
        "",
        f"- the same text decided differently: {questions['contradictions']}; nearly the same: {questions['disagreements']}",
        f"- new questions in the review queue: {new}"
        + "".join(f"; {kind.replace('_', ' ')} {count}" for kind, count in questions["new_in_queue"].items()),
        "",
        "## How it was made",
        "",
        "```json",
        json.dumps(card["how"], indent=2, ensure_ascii=False),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _render_table(header: list[str], rows: list[list[object]]) -> list[str]:
    cells: list[list[object]] = [[*header], ["---"] * len(header), *rows]
    lines = [[str(cell).replace("|", "\\|") for cell in row] for row in cells]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
