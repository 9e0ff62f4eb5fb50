"""What the documents name exists: files, headings, commands, make targets."""

import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks, without_blocks

HIDDEN = re.compile(r"(?:^|/)(?:\.[^/]+|target|node_modules)/")
PAGES = sorted(page for page in ROOT.rglob("*.md") if not HIDDEN.search(str(page.relative_to(ROOT))))

LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
LINK_TEXT = re.compile(r"\[([^\]]*)\]\([^)]*\)")
REFERENCE = re.compile(r"^\[[^\]]+\]: +(\S+)", re.MULTILINE)
SECRETSCTL = re.compile(r"(?<![\w/.-])secretsctl((?: +[a-z][a-z-]*)+)")
MAKE = re.compile(r"(?:^|`)make +((?:[a-z][a-z-]*(?= |`|$) ?)+)", re.MULTILINE)


def prose(page: Path) -> str:
    return without_blocks(page.read_text())


def code(page: Path) -> str:
    """Shell blocks without their comments, and code within a sentence."""
    scripts = [block.text for block in blocks(page) if block.is_command]
    lines = [re.sub(r"\s#\s.*", "", line).removeprefix("$ ") for script in scripts for line in script.splitlines()]
    return "\n".join([*lines, *re.findall(r"`[^`\n]+`", prose(page))])


def links(page: Path) -> list[str]:
    """Where a page leads: links, images and the targets of references; what stands in code leads nowhere."""
    text = re.sub(r"`[^`\n]+`", "`code`", prose(page))
    return [*LINK.findall(text), *REFERENCE.findall(text)]


@cache
def anchors(page: Path) -> frozenset[str]:
    """The headings of a page, as GitHub names them in links; of those alike the second is `…-1`."""
    slugs = Counter[str]()
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", LINK_TEXT.sub(r"\1", heading).lower()).replace(" ", "-")
        found.add(f"{slug}-{slugs[slug]}" if slug in slugs else slug)
        slugs[slug] += 1
    return frozenset(found)


@cache
def commands(*group: str) -> frozenset[str]:
    """The commands that `secretsctl … --help` lists; none for what is a command itself."""
    program = Path(sys.executable).with_name("secretsctl")
    done = subprocess.run([program, *group, "--help"], capture_output=True, text=True, timeout=30, check=True)
    return frozenset(re.findall(r"^  ([a-z][a-z-]*) {2,}\S", done.stdout, re.MULTILINE))


def named(page: Path) -> set[tuple[str, ...]]:
    """The secretsctl commands that a page names: `secretsctl audit verify` is ("audit", "verify")."""
    found = set()
    for words in SECRETSCTL.findall(code(page)):
        first, *rest = words.split()
        found.add((first, rest[0]) if rest and commands(first) else (first,))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target in links(page):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_secretsctl_command_named_exists(page: Path) -> None:
    unknown = {words for words in named(page) if words[-1] not in commands(*words[:-1])}
    assert unknown == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {target for words in MAKE.findall(code(page)) for target in words.split()} <= targets


def test_every_page_of_docs_is_in_its_index() -> None:
    linked = set(LINK.findall((ROOT / "docs/README.md").read_text()))
    linked |= {f"adr/{page}" for page in LINK.findall((ROOT / "docs/adr/README.md").read_text())}
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")} - {"README.md"}
    assert pages <= linked


def test_the_decisions_are_listed_in_their_order() -> None:
    listed = re.findall(r"^\| \[(\d+)\]\((\d{4})-", (ROOT / "docs/adr/README.md").read_text(), re.MULTILINE)
    assert [int(page) for _, page in listed] == sorted({int(number) for number, _ in listed})


def test_the_index_lists_each_page_in_one_place() -> None:
    listed = re.findall(r"^\| \[[^\]]+\]\(([^)]+)\)", (ROOT / "docs/README.md").read_text(), re.MULTILINE)
    assert [page for page, times in Counter(listed).items() if times > 1] == []


def test_make_help_lists_every_target_that_a_person_types() -> None:
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    assert {"run", "test", "test-slow", "lint", "format", "clean", "help"} <= set(
        re.findall(r"^  make ([a-z-]+)", text, re.MULTILINE)
    )
