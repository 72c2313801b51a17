"""What release notes say of how a run trained beyond its settings: the sweep, learning from edits, the validation figures.

Pure functions of a run's counts; knows neither pages nor tables.
"""

from collections.abc import Mapping
from typing import Any


def describe_sweep(counts: Mapping[str, Any]) -> list[str]:
    """Return what a sweep chose and why, nothing where there was none."""
    sweep = counts.get("sweep")
    if not sweep:
        return []
    if "skipped" in sweep:
        return [f"skipped: {sweep['skipped']}"]
    start, chosen = (
        f"rank {point['r']}, learning rate {point['learning_rate']:g}" for point in (sweep["start"], sweep["chosen"])
    )
    lines = [f"{len(sweep['trials'])} trials in {sweep['spent_s']:.0f} of {sweep['budget_s']:.0f} s"]
    if not sweep["is_measured"]:
        return [*lines, f"no trial was measured in that time: trained with {start}"]
    if chosen == start:
        lines.append(f"trained with its own settings, {start}: nothing tried was better by what is worth a change")
    else:
        lines.append(f"trained with {chosen}; without the sweep it would have been {start}")
    return [*lines, "the best of several is flattered by being chosen; the gate's tickets took no part in it"]


def build_trials(counts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a sweep's trials as a table, in the order in which they were made; nothing where there were none."""
    trials = counts.get("sweep", {}).get("trials", [])
    if not trials:
        return []
    rows: list[tuple[str, ...]] = [("rank", "learning rate", "held-out log loss", "accuracy", "held out", "seconds", "")]
    for trial in trials:
        log_loss, accuracy = ("" if trial[key] is None else f"{trial[key]:.4f}" for key in ("log_loss", "accuracy"))
        remark = f"{trial['outcome']}: {trial['note']}" if trial["note"] else trial["outcome"]
        seconds = f"{trial['seconds']:.0f}"
        rows.append((str(trial["r"]), f"{trial['learning_rate']:g}", log_loss, accuracy, str(trial["n"]), seconds, remark))
    return rows


def describe_preference(counts: Mapping[str, Any]) -> list[str]:
    """Return what learning from edits did, or why it was left out; nothing for runs that know no edits."""
    step = counts.get("preference")
    if not step:
        return []
    if "skipped" in step:
        return [f"skipped: {step['skipped']}"]
    lines = [f"{step['n_pairs']} pairs of draft and edited summary, {step['epochs']} passes, beta {step['beta']:g}"]
    for prefix, name in (("", "pairs it learned from"), ("held_out_", "pairs it did not learn from")):
        if f"{prefix}margin" not in step:
            continue
        n = step["n_held_out"] if prefix else step["n_pairs"]
        before, after = (100 * step[f"{prefix}accuracy_{when}"] for when in ("before", "after"))
        lines.append(
            f"{n} {name}: the edited summary is the likelier one in {before:.0f} % before and {after:.0f} % after; mean margin "
            f"{step[f'{prefix}margin']:+.3f}, log-probability of the edit {step[f'{prefix}edited_change']:+.2f}, of the draft "
            f"{step[f'{prefix}draft_change']:+.2f}"
        )
    return lines


def describe_passes(counts: Mapping[str, Any]) -> list[str]:
    """Return after which pass a decoder stopped learning and which one's weights it kept; nothing where none was measured."""
    found = counts.get("passes")
    if not found:
        return []
    losses = ", ".join(f"{loss:.3f}" for loss in found["held_out_losses"])
    return [
        f"{found['n_done']} of {found['n_planned']} passes, the weights of pass {found['n_kept']} kept; held-out loss after each: {losses}"
    ]


def describe_validation(counts: Mapping[str, Any]) -> list[str]:
    """Return how good the trained weights are on what they did not learn from, before the gate."""
    found = counts.get("validation")
    if not found:
        return []
    accuracy = f", accuracy {found['accuracy']:.3f}" if "accuracy" in found else ""
    return [f"{found['n']} held-out examples: log loss {found['log_loss']:.4f}{accuracy}"]


def get_trained_settings(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings a run trained with: as they were set, but for what a sweep chose."""
    return {**counts.get("settings", {}), **counts.get("sweep", {}).get("chosen", {})}
