from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from secretsd.backup import archive
from secretsd.backup.archive import Member
from secretsd.errors import BackupError


def tar(*members: tuple[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None, **options: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=options.get("format", tarfile.GNU_FORMAT)) as out:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if change is not None:
                change(info)
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def contents(data: bytes) -> list[tuple[str, bytes]]:
    return [(member.name, b"".join(member.chunks)) for member in archive.read(io.BytesIO(data))]


def test_what_was_written_is_read_again_and_tar_reads_it_too(tmp_path: Path) -> None:
    members = [("a", b""), ("b", b"x" * 512), ("c", b"y" * 1000)]
    data = b"".join(archive.written([Member(name, len(part), [part]) for name, part in members], 1))
    assert contents(data) == members
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        assert opened.getnames() == ["a", "b", "c"]


def test_a_member_that_grew_while_it_was_read_is_refused() -> None:
    with pytest.raises(BackupError, match="changed while it was read"):
        list(archive.written([Member("a", 3, [b"four"])], 1))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE],
)
def test_what_is_no_plain_file_is_refused(kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    with pytest.raises(BackupError, match="is no plain file"):
        contents(tar(("vault.json", b""), change=change))


def test_extended_and_long_name_headers_are_refused() -> None:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with pytest.raises(BackupError, match="is no plain file"):
            contents(tar(("n" * 300, b"x"), format=form))


def test_a_damaged_header_is_refused() -> None:
    data = bytearray(tar(("a", b"x")))
    data[0] ^= 1
    with pytest.raises(BackupError, match="a header can't be read"):
        contents(bytes(data))


@pytest.mark.parametrize("kept", [0, 100, 512, 520])
def test_an_archive_that_is_cut_short_is_refused(kept: int) -> None:
    with pytest.raises(BackupError, match="cut short"):
        contents(tar(("a", b"x" * 100))[:kept])


def test_something_behind_the_end_is_refused() -> None:
    with pytest.raises(BackupError, match="behind the archive's end"):
        contents(tar(("a", b"x")) + b"more")


def test_a_size_beyond_the_archive_asks_for_no_memory() -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.size = 2**50

    header = tarfile.TarInfo("a")
    change(header)
    with pytest.raises(BackupError, match="cut short"):
        contents(header.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
