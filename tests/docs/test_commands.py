"""Commands that need no cluster run as they stand on the pages."""

import pytest

from .reading import ROOT, blocks, pages
from .running import Reader

PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()]
RUN = [page for page in pages() if any(block.mark == "test" for block in blocks(page))]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_is_run_or_says_why_not(page):
    for block in blocks(page):
        if block.language in ("sh", "bash", "shell", "console"):
            assert (block.mark in ("test", "cluster")) != bool(block.why_not_run), str(block)


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in RUN])
def test_commands_run(tmp_path, page):
    reader = Reader(tmp_path)
    reader.write_trace(seconds=300, rate_per_s=2.0)
    for block in blocks(page):
        if block.mark == "test" or block.file:
            reader.run(block, timeout_s=300)
    if page.name == "README.md":
        assert "<html" in (reader.folder / "report.html").read_text()[:500].lower()
