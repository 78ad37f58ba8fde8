#!/usr/bin/env python3
"""Draws the pictures of the documentation beside itself: mask.svg and context.svg.

    python3 docs/pictures/draw.py

Everything is computed from the rules of docs/ksa.md and docs/design/context.md for a small example, so that a picture
cannot say something else than the text. Needs Python alone; the results are committed.
"""
import os
from xml.sax.saxutils import escape

TEXT = "#3b6fb6"
OLD = "#e08a1e"
OWN = "#7a9e3a"
EMPTY = "#eef0f3"
INK = "#24292f"
FADED = "#6b7280"
RANKS = ["#3b6fb6", "#b6473b", "#4d9451", "#8a5fb0"]


class Picture:
    def __init__(self, width, height, title):
        self.width, self.height = width, height
        self.parts = [f"<title>{escape(title)}</title>", self.box(0, 0, width, height, "#ffffff", radius=8)]

    @staticmethod
    def box(x, y, w, h, fill, radius=0, stroke="none"):
        return f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{radius}" fill="{fill}" stroke="{stroke}"/>'

    def add(self, part):
        self.parts.append(part)

    def rect(self, *args, **keywords):
        self.add(self.box(*args, **keywords))

    def text(self, x, y, words, size=12, colour=INK, anchor="start", weight="normal", turn=0):
        rotate = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
        self.add(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}"{rotate}>{escape(words)}</text>'
        )

    def line(self, x1, y1, x2, y2, colour=FADED, width=1.0, arrow=False, dash=""):
        end = ' marker-end="url(#head)"' if arrow else ""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.add(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" stroke-width="{width}"{dashes}{end}/>'
        )

    def save(self, path):
        head = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{FADED}"/></marker></defs>'
        )
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                f'width="{self.width}" height="{self.height}" font-family="system-ui, sans-serif">{head}'
                + "\n".join(self.parts)
                + "</svg>\n"
            )


def stream(chunks, k):
    """Rows in the order of the text: ('text', position) and, behind each chunk, ('summary', chunk)."""
    rows = []
    for chunk in range(chunks):
        rows += [("text", chunk * k + i) for i in range(k)]
        rows.append(("summary", chunk))
    return rows


def visible(query, key, k, window):
    """The rule of docs/ksa.md, and the colour of the pair."""
    (query_kind, q), (key_kind, s) = query, key
    if query_kind == "text":
        if key_kind == "text":
            return TEXT if s <= q and s // k >= q // k - window else None
        return OLD if s < q // k - window else None
    if key_kind == "text":
        return OWN if s // k == q else None
    return OWN if s == q else None


def mask(path):
    chunks, k, window, cell, left, top = 6, 4, 1, 15, 150, 84
    rows = stream(chunks, k)
    size = len(rows) * cell
    picture = Picture(left + size + 310, top + size + 46, "Who sees whom in Kwai Summary Attention")
    picture.text(24, 34, "Who sees whom", 18, weight="bold")
    picture.text(24, 54, f"k = {k} text tokens a chunk, one summary each, w = {window} earlier chunk as text", 12, FADED)
    for j, (kind, number) in enumerate(rows):
        x = left + j * cell
        name, colour = (f"s{number}", OLD) if kind == "summary" else (str(number), FADED)
        picture.text(x + cell / 2, top - 6, name, 8, colour, "middle")
        picture.text(left - 6, top + j * cell + cell * 0.72, name, 8, colour, "end")
    for i, query in enumerate(rows):
        for j, key in enumerate(rows):
            colour = visible(query, key, k, window) or EMPTY
            picture.rect(left + j * cell + 0.5, top + i * cell + 0.5, cell - 1, cell - 1, colour, radius=2)
    for chunk in range(chunks):
        y = top + chunk * (k + 1) * cell
        picture.text(left - 34, y + k * cell / 2 + 6, f"chunk {chunk}", 11, INK, "end")
        if chunk:
            picture.line(left - 24, y, left + size, y, "#c7ccd3", 0.8)
            picture.line(left + chunk * (k + 1) * cell, top - 16, left + chunk * (k + 1) * cell, top + size, "#c7ccd3", 0.8)
    picture.text(left + size / 2, top + size + 24, "keys, in the order of the text", 12, FADED, "middle")
    picture.text(26, top + size / 2, "queries", 12, FADED, "middle", turn=-90)
    x, y = left + size + 24, top + 20
    legend = [
        (TEXT, ["a token sees the text of its", "chunk and of w chunks before"]),
        (OLD, ["… and of everything older", "the summaries alone"]),
        (OWN, ["a summary sees its own chunk:", "it is made once, and kept"]),
    ]
    for colour, lines in legend:
        picture.rect(x, y - 10, 12, 12, colour, radius=2)
        for n, line in enumerate(lines):
            picture.text(x + 20, y + 1 + 16 * n, line, 12)
        y += 54
    text_keys = (window + 1) * k
    tokens = 131072
    for n, line in enumerate(
        [
            "A chunk is seen as text or as its summary,",
            "never as both. At 128K tokens, k = 8 and",
            f"w = 128 a layer keeps {129 * 8 + tokens // 8:,} entries",
            f"instead of {tokens:,}.",
        ]
    ):
        picture.text(x, y + 12 + 17 * n, line, 12, FADED)
    assert text_keys == 8
    picture.save(path)


def context(path):
    """Slices of a sequence on ranks (zigzag), and what each needs of the others: docs/design/context.md."""
    ranks, chunks, window, cell, left, top = 2, 16, 2, 34, 120, 96
    slices = 2 * ranks
    first = [s * chunks // slices for s in range(slices + 1)]
    owner = [min(s, slices - 1 - s) for s in range(slices)]
    owner_of = [owner[max(s for s in range(slices) if first[s] <= c)] for c in range(chunks)]
    picture = Picture(left + chunks * cell + 60, 466, "What ranks exchange when they share a sequence")
    picture.text(24, 34, "One sequence on two ranks", 18, weight="bold")
    picture.text(
        24, 54, f"{chunks} chunks in {slices} slices, rank r owns slices r and {slices - 1} - r; w = {window} chunks", 12, FADED
    )
    def row(y, label, colour_of, mark_of=lambda c: ""):
        picture.text(left - 12, y + 20, label, 12, INK, "end")
        for c in range(chunks):
            colour = colour_of(c)
            picture.rect(left + c * cell + 1, y, cell - 2, 30, colour or EMPTY, radius=3)
            picture.text(left + c * cell + cell / 2, y + 20, mark_of(c), 11, "#ffffff" if colour else FADED, "middle")
    row(top, "chunks", lambda c: RANKS[owner_of[c]], str)
    for s in range(slices):
        middle = left + (first[s] + first[s + 1]) / 2 * cell
        picture.text(middle, top - 8, f"slice {s}: rank {owner[s]}", 11, RANKS[owner[s]], "middle")
    y = top + 62
    for rank in range(ranks):
        mine = {c for c in range(chunks) if owner_of[c] == rank}
        halo = set()
        for s in range(slices):
            if owner[s] == rank:
                halo |= {c for c in range(max(0, first[s] - window), first[s])}
        halo -= mine
        picture.text(24, y, f"rank {rank} holds its chunks and receives, a layer:", 12, RANKS[rank], weight="bold")
        row(
            y + 12,
            "text k, v",
            lambda c: RANKS[rank] if c in mine else RANKS[owner_of[c]] if c in halo else None,
            lambda c: "own" if c in mine else "halo" if c in halo else "",
        )
        live = chunks - window - 1
        row(
            y + 52,
            "summary k, v",
            lambda c: None if c >= live else RANKS[owner_of[c]],
            lambda c: "dead" if c >= live else "own" if c in mine else "recv",
        )
        y += 116
    for n, line in enumerate(
        [
            "The text of w chunks before each slice (the halo) travels from its owner, and one row a summary of every live",
            "chunk from everybody to everybody: bytes grow with T/k, not with T. The zigzag gives both ranks early and late",
            "chunks, so that full layers balance too. Backward returns gradients along the same ways.",
        ]
    ):
        picture.text(24, y + 16 + 18 * n, line, 12, FADED)
    picture.save(path)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    mask(os.path.join(here, "mask.svg"))
    context(os.path.join(here, "context.svg"))
