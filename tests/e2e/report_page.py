#!/usr/bin/env python3
"""Checks the structure of a page of `ksa report`: report_page.py PAGE TITLE RUNS CURVE...

One document that loads nothing, with data that parses, TITLE as its title, RUNS runs, and in each run the curves.
"""

import html.parser
import json
import sys

ONCE = ("html", "head", "title", "style", "body", "main")
LOADS = ("src", "href", "srcset", "action", "data", "poster", "background")
EMPTY = ("meta", "input", "br", "hr")


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.count, self.texts, self.problems, self.policy = [], {}, {}, [], ""

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        attributes = dict(attributes)
        for name, value in attributes.items():
            if name in LOADS or name.startswith("on"):
                self.problems.append(f"<{tag} {name}={value!r}>")
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if tag not in EMPTY:
            self.open.append((tag, attributes.get("id")))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, text):
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + text


def main():
    path, title, runs, *curves = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    page = Page()
    page.feed(text)
    page.close()
    problems = page.problems
    if not text.startswith("<!DOCTYPE html>") or not text.endswith("</html>\n"):
        problems.append("not one whole document")
    for tag in ONCE:
        if page.count.get(tag) != 1:
            problems.append(f"<{tag}> is there {page.count.get(tag, 0)} times")
    if page.count.get("script") != 3:
        problems.append(f"{page.count.get('script')} scripts instead of data, library and page")
    if not page.policy.startswith("default-src 'none'"):
        problems.append("the page may load something: " + page.policy)
    if page.texts.get(("title", None)) != title:
        problems.append(f"the title is {page.texts.get(('title', None))!r}")
    data = json.loads(page.texts[("script", "data")])
    if data["title"] != title or len(data["runs"]) != int(runs):
        problems.append(f"{len(data['runs'])} runs, title {data['title']!r}")
    for run in data["runs"]:
        for curve in curves:
            found = [one for one in run["curves"] if one["name"] == curve]
            if len(found) != 1 or not found[0]["value"]:
                problems.append(f"run {run['name']!r} has no curve {curve}")
            elif len({len(found[0][key]) for key in ("step", "tokens", "hours", "value")}) != 1:
                problems.append(f"run {run['name']!r}: {curve}: columns of different lengths")
    for problem in problems:
        print(f"{path}: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


main()
