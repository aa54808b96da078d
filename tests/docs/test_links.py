"""Every relative link leads somewhere, and every anchor to a heading."""

import re
from pathlib import Path

import pytest

from .reading import ROOT, pages, prose

PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken(page):
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        found = target.exists() and target.is_relative_to(ROOT)
        if not found or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    assert not list(broken(page))


def test_every_page_is_linked_from_the_readme():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall(prose(ROOT / "README.md"))}
    assert set((ROOT / "docs").glob("*.md")) <= linked


def test_broken_links_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", Path(tmp_path))
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three\n[a](#one-two-three) [b](#nothing) [c](gone.md) [d](https://dynawatt.dev)\n")
    assert list(broken(page)) == ["#nothing", "gone.md"]
