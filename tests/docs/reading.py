"""The pages of the documentation, and the blocks in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT_ABOVE = re.compile(r"<!-- not run here: (?P<reason>[^>]+) -->\n$")
_LINE_ENDS = re.compile(r"\\\n\s*")


class Block(NamedTuple):
    """A fenced block."""

    page: Path
    line: int
    language: str
    mark: str
    """The rest of the line that opens it."""
    text: str
    why_not_run: str
    """What the comment above it says."""

    @property
    def commands(self) -> list[str]:
        """Its commands, each on one line; of a console those behind the prompt."""
        text = _LINE_ENDS.sub(" ", self.text)
        if self.language == "console":
            return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    @property
    def file(self) -> str:
        """The file that it is, where it is one."""
        return self.mark.removeprefix("file=") if self.mark.startswith("file=") else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """All pages that users and developers read."""
    own = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "operator/README.md")]
    return own + sorted((ROOT / "docs").rglob("*.md"))


def blocks(page: Path) -> Iterator[Block]:
    """In their order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        language, _, mark = found["info"].partition(" ")
        above = _COMMENT_ABOVE.search(text, 0, found.start())
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, language, mark, found["text"], above["reason"] if above else "")


def prose(page: Path) -> str:
    """The page without its blocks and comments."""
    return re.sub(r"<!--.*?-->", "", _FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.DOTALL)


def spans(page: Path) -> Iterator[str]:
    """What stands between back-ticks in its prose."""
    for paragraph in prose(page).split("\n\n"):
        for found in re.finditer(r"`([^`]+)`", paragraph):
            yield " ".join(found[1].split())
