"""Writes the figures of `.bench/{engine,swap,train,masking}.json` into docs/benchmarks.md: `python -m benches.publish [NAME ...]`.

Knows the page's marks and the benches' own tables; measures nothing. Figures of quick runs are refused.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benches import engine, masking, swap, train
from benches.paths import BENCH_DIR, ROOT, BenchError

PAGE: Final = ROOT / "docs" / "benchmarks.md"
BEGIN: Final = "<!-- figures: written by python -m benches.publish -->"
END: Final = "<!-- end of figures -->"
TRAIN_BEGIN: Final = "<!-- figures of training: written by python -m benches.publish -->"
TRAIN_END: Final = "<!-- end of figures of training -->"
MASKING_BEGIN: Final = "<!-- figures of masking: written by python -m benches.publish -->"
MASKING_END: Final = "<!-- end of figures of masking -->"
NAMES: Final = ("engine", "train", "masking")


def build_section(title: str, machine: Mapping[str, Any], rows: Sequence[tuple[str, str, str]]) -> str:
    """Return one table in Markdown with the machine it is from."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        f"### {title}",
        "",
        f"{machine['cpu_model']} ({' '.join(machine['cpu_flags'])}), {machine['n_cores']} cores, {machine['n_threads']} threads; "
        f"{versions}; {machine['measured_at'][:10]}.",
        "",
        "| what | measured | bar or remark |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
    return "\n".join(lines)


def build_figures(engine_figures: Mapping[str, Any], swap_figures: Mapping[str, Any]) -> str:
    """Return all tables. Raises BenchError where a run was a quick one or is missing."""
    sections = []
    for kind in ("encoder", "decoder"):
        _refuse_quick(engine_figures.get(f"{kind}_is_quick", True), f"bench-engine, {kind}")
        machine = engine_figures[f"{kind}_machine"]
        sections.append(build_section(f"Engine: {kind}", machine, engine.build_rows(kind, engine_figures)))
    _refuse_quick(swap_figures.get("is_quick", True), "bench-swap")
    sections += [
        build_section(f"Swap: {kind}", swap_figures["machine"], swap.build_rows(dict(swap_figures), kind))
        for kind in ("encoder", "decoder")
    ]
    return "\n".join(sections)


def build_train_figures(figures: Mapping[str, Any]) -> str:
    """Return the tables of training. Raises BenchError where a section was a quick run, or a key is missing."""
    for section in train.SECTIONS:
        _refuse_quick(figures.get(f"{section}_is_quick", True), f"bench-train, {section}")
    missing = [key for key in train.KEYS if key not in figures]
    if missing:
        message = f"bench-train wrote no '{missing[0]}'; run it again"
        raise BenchError(message)
    return "\n".join(
        build_section(f"Training: {section}", figures[f"{section}_machine"], train.build_rows(section, figures))
        for section in train.SECTIONS
    )


def _refuse_quick(is_quick: bool, name: str) -> None:
    if is_quick:
        message = f"{name} was a quick run or was not made; make it in full before its figures are published"
        raise BenchError(message)


def replace_figures(page: str, figures: str, *, begin: str = BEGIN, end: str = END) -> str:
    """Return the page with new figures between two marks. Raises BenchError where a mark is missing."""
    if begin not in page or end not in page:
        message = f"the page has lost its marks; put '{begin}' and '{end}' back where the figures belong"
        raise BenchError(message)
    before, after = page.split(begin, 1)[0], page.split(end, 1)[1]
    return f"{before}{begin}\n\n{figures}\n{end}{after}"


def _read(name: str) -> dict[str, Any]:
    path: Path = BENCH_DIR / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def write_page(page: str, names: Sequence[str]) -> str:
    """Return the page with the figures of the benches named; engine and swap go together. Raises BenchError."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        message = f"there are no figures called '{unknown[0]}'; choose among {', '.join(NAMES)}"
        raise BenchError(message)
    if "engine" in names:
        page = replace_figures(page, build_figures(_read("engine"), _read("swap")))
    if "train" in names:
        page = replace_figures(page, build_train_figures(_read("train")), begin=TRAIN_BEGIN, end=TRAIN_END)
    if "masking" in names:
        page = replace_figures(page, masking.build_figures(_read("masking")), begin=MASKING_BEGIN, end=MASKING_END)
    return page


def main() -> None:
    """Rewrite the page: all of it, or the part of the benches named."""
    try:
        PAGE.write_text(write_page(PAGE.read_text(encoding="utf-8"), sys.argv[1:] or NAMES), encoding="utf-8")
    except BenchError as error:
        print(f"publish: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
