"""Every relative link in the project's Markdown leads to a file that exists, and every page of docs/ is in its index."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = {".venv", ".understudy", ".bench", ".git", "node_modules"}
PAGES = sorted(path for path in ROOT.rglob("*.md") if not HIDDEN.intersection(path.relative_to(ROOT).parts[:1]))
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|<img[^>]+src=\"([^\"]+)\"")
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", flags=re.MULTILINE | re.DOTALL)


def find_links(page: Path) -> list[str]:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    links = [first or second for first, second in LINK.findall(text)]
    return [unquote(link.partition("#")[0]) for link in links if not re.match(r"[a-z]+:|#", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_that_exist(page: Path):
    assert [link for link in find_links(page) if not (page.parent / link).exists()] == []


def test_index_of_the_documentation_names_every_page():
    linked = {(ROOT / "docs" / link).resolve() for link in find_links(ROOT / "docs" / "README.md")}
    pages = {page.resolve() for page in (ROOT / "docs").rglob("*.md")} - {(ROOT / "docs" / "README.md").resolve()}
    assert pages
    assert sorted(str(page.relative_to(ROOT)) for page in pages - linked) == []
