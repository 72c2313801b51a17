"""Writes the figures of `.bench/engine.json` and `.bench/swap.json` into docs/benchmarks.md: `python -m benches.publish`.

Knows the page's two marks and the benches' own tables; measures nothing. Figures of quick runs are refused.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benches import engine, swap
from benches.paths import BENCH_DIR, ROOT, BenchError

PAGE: Final = ROOT / "docs" / "benchmarks.md"
BEGIN: Final = "<!-- figures: written by python -m benches.publish -->"
END: Final = "<!-- end of figures -->"


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


def _refuse_quick(is_quick: bool, name: str) -> None:
    if is_quick:
        message = f"{name} was a quick run or was not made; make it in full before its figures are published"
        raise BenchError(message)


def replace_figures(page: str, figures: str) -> str:
    """Return the page with new figures between its marks. Raises BenchError where a mark is missing."""
    if BEGIN not in page or END not in page:
        message = f"the page has lost its marks; put '{BEGIN}' and '{END}' back where the figures belong"
        raise BenchError(message)
    before, after = page.split(BEGIN, 1)[0], page.split(END, 1)[1]
    return f"{before}{BEGIN}\n\n{figures}\n{END}{after}"


def _read(name: str) -> dict[str, Any]:
    path: Path = BENCH_DIR / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def main() -> None:
    """Rewrite the page."""
    try:
        PAGE.write_text(
            replace_figures(PAGE.read_text(encoding="utf-8"), build_figures(_read("engine"), _read("swap"))), encoding="utf-8"
        )
    except BenchError as error:
        print(f"publish: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
