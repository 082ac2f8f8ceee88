"""The example that fetches music: what it takes of an archive, and what is held out."""

from __future__ import annotations

import importlib.util
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "free_music.py"


@pytest.fixture(scope="module")
def free_music() -> ModuleType:
    spec = importlib.util.spec_from_file_location("free_music", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_member_of_an_archive_leads_out_of_the_folder(
    free_music: ModuleType, tmp_path: Path
) -> None:
    packed = tmp_path / "music.pk3"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("music/a.ogg", "../../b.ogg", "/c.opus", "music/cover.png"):
            archive.writestr(name, name)
    free_music.unpack(packed, tmp_path / "inner" / "out")
    found = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.o*"))
    assert [str(path) for path in found] == [f"inner/out/{n}" for n in ("a.ogg", "b.ogg", "c.opus")]
    assert (tmp_path / "inner" / "out" / "a.ogg").read_text() == "music/a.ogg"


def test_what_is_trained_on_is_neither_held_out_nor_akin_nor_short(
    free_music: ModuleType, tmp_path: Path
) -> None:
    long, short, akin = (tmp_path / name for name in ("a.ogg", "b.ogg", "defeat2.ogg"))
    for path, size in ((long, free_music.LEAST_BYTES), (short, 9), (akin, free_music.LEAST_BYTES)):
        path.write_bytes(bytes(size))
    part = free_music.part_of
    assert [part(free_music.DIVIDED, n, long) for n in range(1, 7)] == [
        *["train"] * 4, "held-out", "train",
    ]  # fmt: skip
    assert part(free_music.DIVIDED, 10, short) == "held-out"
    assert part(free_music.DIVIDED, 1, akin) == "left-out"
    assert {part(package, 1, long) for package in free_music.HELD_OUT} == {"held-out"}
    assert part("asc-music", 5, long) == "train"
    assert part("asc-music", 1, short) == "left-out"
    assert set(free_music.HELD_OUT) < {*free_music.SMALL, *free_music.MORE}


def test_a_package_that_a_release_lacks_is_named_and_the_others_are_fetched(
    free_music: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(package: str, folder: Path) -> int:
        if package == free_music.SMALL[1]:
            raise subprocess.CalledProcessError(100, ["apt-get", "download", package])
        return 7

    monkeypatch.setattr(free_music, "fetch", fetch)
    monkeypatch.setattr(free_music.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("sys.argv", ["free_music.py", "music", "--small"])
    with pytest.raises(SystemExit, match=f"not fetched.*: {free_music.SMALL[1]}$"):
        free_music.main()
    fetched = [package for package in free_music.SMALL if package != free_music.SMALL[1]]
    assert capsys.readouterr().out == "".join(f"{package}: 7 files\n" for package in fetched)
