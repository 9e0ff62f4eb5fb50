"""scan: values of the vault that still lie about in files and in git's history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from secretsd.cli.errors import Failed
from secretsd.cli.leaks.findings import Finding, advice
from secretsd.cli.leaks.history import search_history
from secretsd.cli.leaks.needles import MIN_LENGTH, Matcher, needles
from secretsd.cli.leaks.replacements import refuse_existing, write_replacements
from secretsd.cli.leaks.repository import Repository, have_git
from secretsd.cli.leaks.tree import Tree, chunks
from secretsd.cli.leaks.vault_values import Wanted, read_values
from secretsd.cli.options import Settings, Whole, complete_names, connection_options
from secretsd.cli.output import counter, emit_json, print_table
from secretsd.cli.session import Session
from secretsd.cli.terminal import note


@click.command
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--only",
    multiple=True,
    metavar="GLOB",
    shell_complete=complete_names,
    help="Look for the secrets that match; may be repeated.",
)
@click.option(
    "--skip",
    multiple=True,
    metavar="GLOB",
    shell_complete=complete_names,
    help="Don't look for these; may be repeated.",
)
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Leave out files and folders by name or path; may be repeated."
)
@click.option(
    "--min-length",
    type=Whole(min=4),
    default=MIN_LENGTH,
    show_default=True,
    metavar="N",
    help="Leave out values of fewer bytes: they would be found everywhere.",
)
@click.option("--no-history", is_flag=True, help="Look into files only.")
@click.option(
    "--replacements",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what `git filter-repo --replace-text` needs to take the values found out of the history (0600).",
)
@connection_options
@click.pass_obj
def scan(
    settings: Settings,
    path: Path,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    exclude: tuple[str, ...],
    min_length: int,
    replacements: Path | None,
    *,
    no_history: bool,
) -> None:
    """Find values of the vault in files below PATH and in the history of the git repositories there.

    The values are those that the client may read, the versions in grace included; each read is in the audit log.
    They are looked for as they are, and as base64, hex, URL-encoded and JSON. None is shown: only whose it is and
    where it lies. Fails when one is found, and when something could not be read.
    """
    refuse_existing(replacements)
    with Session.open(settings) as session:
        wanted = read_values(session, only, skip, min_length)
    tree = Tree(path.resolve() if path.is_symlink() else path, exclude)
    matcher = Matcher(needles(wanted.values))
    findings = _search(tree, matcher, history=not no_history)
    if replacements is not None and any(one.repository for one in findings):
        write_replacements(replacements, findings, matcher)
    if settings.as_json:
        emit_json(_document(matcher.masked(str(path)), wanted, tree, findings))
    else:
        _show(findings)
    _tell(wanted, tree, min_length)
    for line in advice(findings, None if replacements is None else matcher.masked(str(replacements))):
        note(line)
    if findings:
        raise Failed(f"{len({one.secret for one in findings})} secrets lie about in {len(findings)} places")
    if tree.skipped.unreadable:
        raise Failed(
            f"{len(tree.skipped.unreadable)} paths could not be read, so nothing is proven about them",
            hint="run it as a user who may read them, or leave them out with --exclude",
        )


def _search(tree: Tree, matcher: Matcher, *, history: bool) -> list[Finding]:
    findings: list[Finding] = []
    with counter("searching") as count:
        for number, file in enumerate(tree.files(), 1):
            try:
                hits = matcher.search(chunks(file))
            except OSError as error:
                tree.skipped.failed(file, error)
                continue
            findings.extend(Finding(hit.needle, matcher.masked(str(file)), hit.line) for hit in hits)
            if count is not None:
                count(number)
    if history:
        for repository in _repositories(tree):
            try:
                findings.extend(search_history(repository, matcher))
            except Failed as failed:
                tree.skipped.unreadable.append(f"{repository.name}: {failed.message}")
    tree.skipped.unreadable = [matcher.masked(one) for one in tree.skipped.unreadable]
    return findings


def _repositories(tree: Tree) -> list[Repository]:
    """Return the repositories below the path, and the one that it lies in, each once."""
    if not have_git():
        tree.skipped.unreadable.extend(f"{one}: git isn't installed here" for one in tree.git_folders)
        return []
    found = {one.resolve(): Repository(one.resolve()) for one in tree.git_folders}
    for folder in [*tree.checkouts, tree.root]:
        try:
            around = Repository.around(folder)
        except Failed as failed:
            tree.skipped.unreadable.append(failed.message)
            continue
        if around is not None:
            found.setdefault(around.git_folder, around)
    return list(found.values())


def _show(findings: list[Finding]) -> None:
    if not findings:
        click.echo("nothing found")
        return
    rows = [
        (
            one.secret,
            "" if one.needle.value.version is None else str(one.needle.value.version),
            one.needle.form,
            one.place,
        )
        for one in findings
    ]
    print_table(("SECRET", "VERSION", "FORM", "PLACE"), rows)


def _tell(wanted: Wanted, tree: Tree, min_length: int) -> None:
    skipped = tree.skipped
    if wanted.too_short:
        note(
            f"not looked for, for they have fewer than {min_length} bytes and would be found everywhere: "
            + ", ".join(wanted.too_short)
        )
    for count, what in (
        (skipped.symlinks, "symbolic links, not followed"),
        (skipped.special, "sockets, pipes and devices"),
        (skipped.excluded, "paths, by --exclude"),
    ):
        if count:
            note(f"left out: {count} {what}")
    for line in skipped.unreadable:
        note(f"not read: {line}")


def _document(path: str, wanted: Wanted, tree: Tree, findings: list[Finding]) -> dict[str, Any]:
    skipped = tree.skipped
    return {
        "path": path,
        "secrets": len({one.secret for one in wanted.values}),
        "findings": [one.as_json() for one in findings],
        "too_short": wanted.too_short,
        "skipped": {"symlinks": skipped.symlinks, "special": skipped.special, "excluded": skipped.excluded},
        "unreadable": skipped.unreadable,
        "complete": not skipped.unreadable,
    }
