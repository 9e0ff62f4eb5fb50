"""docs/man is what --help says, and mandoc finds nothing wrong with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import click
import pytest

from tools.manpages import FOLDER, everything, pages

PAGES = {f"{page.name}.1": page for page in pages()}


def test_the_written_pages_are_what_help_says() -> None:
    made = everything()
    assert {path.name for path in FOLDER.iterdir()} == set(made), "run `make reference`"
    for name, text in made.items():
        assert (FOLDER / name).read_text() == text, f"{name}: run `make reference`"


def test_each_option_that_help_shows_is_on_its_page() -> None:
    for name, page in PAGES.items():
        text = (FOLDER / name).read_text().replace("\\-", "-")
        for param in page.command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert all(option in text for option in param.opts), f"{name}: {param.name}"


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc isn't installed")
def test_mandoc_finds_nothing_wrong() -> None:
    command = ["mandoc", "-T", "lint", *sorted(FOLDER.iterdir())]
    done = subprocess.run(command, capture_output=True, check=False, text=True, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc isn't installed")
def test_a_page_reads_as_it_is_meant() -> None:
    command = ["mandoc", "-T", "ascii", "-O", "width=200", FOLDER / "secretsctl-template.1"]
    text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    plain = re.sub(".\b", "", text)  # bold, as a typewriter does it
    assert "NAME" in plain
    assert '{{ secret("name") }} is a secret\'s value' in plain
