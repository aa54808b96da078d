"""Pages as a browser shows them."""

import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Final, NamedTuple

import pytest

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_CHANNELS: Final = {2: 3, 6: 4}
"""Bytes of a pixel by PNG's colour type: RGB, and RGBA."""
_CHART: Final = re.compile('<div id="([^"]*)" class="js-plotly-plot')
_MARK: Final = re.compile('class="js-line" d="M|class="point"><path d="M(?!0,0Z)|<image')


class Photograph(NamedTuple):
    """What there was to see."""

    text: str
    """The page as its scripts left it, as HTML."""
    inked: float
    """Part of the lines of the picture that differ from the line above, or along themselves."""
    png: Path


def photograph(page: Path, png: Path, *, width: int = 1400, height: int = 3000) -> Photograph:
    """Open a page in Chromium, and look at it. Skips the test where there is no Chromium."""
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(_NAMES)} is installed")
    # As root it has no sandbox; nothing here is from elsewhere.
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    options += [f"--user-data-dir={png.with_suffix('.profile')}", f"--window-size={width},{height}"]
    options += ["--virtual-time-budget=10000", page.as_uri()]
    subprocess.run([browser, f"--screenshot={png}", *options], check=True, capture_output=True, timeout=120)
    found = subprocess.run([browser, "--dump-dom", *options], check=True, capture_output=True, text=True, timeout=120)
    return Photograph(found.stdout, inked(png.read_bytes()), png)


def drawn_charts(text: str) -> dict[str, bool]:
    """By id, whether anything is drawn in a plotly chart of a page: a line, a bar, a heat map's picture."""
    parts = _CHART.split(text)[1:]
    return {name: bool(_MARK.search(part)) for name, part in zip(parts[::2], parts[1::2], strict=True)}


def inked(png: bytes) -> float:
    """Part of the lines of a PNG that hold anything after its filters, which leave nothing of a plain surface."""
    chunks, at, data = [], 8, b""
    width = height = colour = 0
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        chunks.append(kind)
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", png[at + 8 : at + 18])
            assert depth == 8
        elif kind == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    assert chunks[0] == b"IHDR"
    assert chunks[-1] == b"IEND"
    rows = zlib.decompress(data)
    pixel, line = _CHANNELS[colour], _CHANNELS[colour] * width + 1
    lines = [rows[start + 1 : start + line] for start in range(0, line * height, line)]
    # A plain line is its first pixel and then nothing, or a repetition of it.
    return sum(any(one[pixel:]) and one[pixel:] != one[:-pixel] for one in lines) / height
