"""`audionas verify-cache` on a damaged cache of DVC."""

import hashlib
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import projects
import pytest
from projects import run

from audionas.cli import main
from audionas.runtime.dvc_cache import verify
from audionas.runtime.errors import UserError

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PIPELINE = """
stages:
  one:
    cmd: echo one > one
    outs: [one]
  two:
    cmd: mkdir two && echo a > two/a && echo b > two/b
    outs: [two]
"""
OBJECTS = Path(".dvc/cache/files/md5")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = projects.project(tmp_path_factory.mktemp("made") / "project")
    (where / "dvc.yaml").write_text(PIPELINE)
    run(where, "dvc", "repro", "-q")
    return where


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "project", symlinks=True)


def object_of(project: Path, content: str) -> Path:
    return next(p for p in (project / OBJECTS).glob("*/*") if p.read_text() == content)


def object_name(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_sound_cache_is_read_whole(project: Path) -> None:
    verdict = verify(project / OBJECTS, project, progress=False)
    assert verdict.files == 4 + 3  # one object is the list of a folder
    assert not (verdict.objects or verdict.outputs or verdict.absent or verdict.leftover)
    assert "7 files" in run(project, "audionas", "verify-cache")


@pytest.mark.parametrize("content", [b"", b"onf\n", b"one\n\n"], ids=["truncated", "a flipped bit", "longer"])
def test_a_damaged_object_is_named_with_its_stage_and_mended_as_the_message_says(project, content) -> None:
    damaged = object_of(project, "one\n")
    overwrite(damaged, content)
    (project / "one").unlink()
    said = run(project, "audionas", "verify-cache", fails=True)
    assert f"{damaged.relative_to(project)}: part of one: one" in said
    assert "--delete" in said
    assert "dvc repro" in said
    run(project, "audionas", "verify-cache", "--delete", fails=True)
    assert not damaged.exists()
    lock = (project / "dvc.lock").read_bytes()
    run(project, "dvc", "repro", "--no-run-cache")  # the output is missing as well
    assert (project / "one").read_text() == "one\n"
    assert (project / "dvc.lock").read_bytes() == lock
    run(project, "audionas", "verify-cache")


def test_a_damaged_list_of_a_folder(project: Path) -> None:
    listed = next((project / OBJECTS).glob("*/*.dir"))
    overwrite(listed, listed.read_bytes()[:-9])
    verdict = verify(project / OBJECTS, project, progress=False)
    assert [kept.of for kept in verdict.objects] == [{"two: two"}]
    assert verdict.absent == verdict.unlisted == ["two: two"]
    assert "not checked: two: two" in run(project, "audionas", "verify-cache", fails=True)
    listed.unlink()
    assert not verify(project / OBJECTS, project, progress=False).sound


def test_an_output_changed_in_place_is_told_from_a_damaged_cache(project: Path) -> None:
    before = (project / "two/a").stat()
    overwrite(project / "two/a", b"x\n")
    os.utime(project / "two/a", ns=(before.st_atime_ns, before.st_mtime_ns))  # as after a disk error
    verdict = verify(project / OBJECTS, project, progress=False)
    assert not verdict.objects
    assert [kept.path for kept in verdict.outputs] == [project / "two/a"]
    said = run(project, "audionas", "verify-cache", fails=True)
    assert "delete the file and run `dvc checkout PATH`" in said
    (project / "two/a").unlink()
    run(project, "dvc", "checkout", "two")
    assert (project / "two/a").read_text() == "a\n"


def test_what_is_absent_is_no_damage(project: Path) -> None:
    object_of(project, "b\n").unlink()
    (project / "two/b").unlink()
    leftover = project / OBJECTS / "aa" / ".half.tmp"
    leftover.parent.mkdir()
    leftover.touch()
    verdict = verify(project / OBJECTS, project, progress=False)
    assert verdict.absent == ["two: two"]
    assert verdict.leftover == [leftover]
    assert "dvc pull" in run(project, "audionas", "verify-cache")


def test_a_lock_that_can_not_be_read_or_no_project_at_all(project: Path, tmp_path: Path) -> None:
    (project / "dvc.lock").write_text("stages: [")
    with pytest.raises(UserError, match=r"(?s)damaged.*git checkout dvc.lock"):
        verify(project / OBJECTS, project)
    with pytest.raises(UserError, match="project's folder"):
        verify(tmp_path / "none", tmp_path)
    assert "project's folder" in run(tmp_path, "audionas", "verify-cache", fails=True)


def test_paths_from_lists_and_locks_stay_in_the_folder(project: Path) -> None:
    (project.parent / "a").write_text("outside")
    listed = next((project / OBJECTS).glob("*/*.dir"))
    overwrite(listed, listed.read_bytes().replace(b'"relpath": "a"', b'"relpath": "../../a"'))
    assert not verify(project / OBJECTS, project, progress=False).outputs
    lock = (project / "dvc.lock").read_text()
    (project / "dvc.lock").write_text(lock.replace("path: one", "path: ../a"))
    with pytest.raises(UserError, match="the path is outside this folder"):
        verify(project / OBJECTS, project)


def test_what_can_not_be_read_is_not_called_damaged_nor_deleted(project: Path, monkeypatch) -> None:
    kept = object_of(project, "one\n")
    refused = Mock(side_effect=PermissionError(13, "Permission denied"))  # root has access
    monkeypatch.setattr("audionas.runtime.dvc_cache.hashlib.file_digest", refused)
    verdict = verify(project / OBJECTS, project, progress=False)
    assert not verdict.objects
    assert verdict.unread[kept] == "Permission denied"
    assert not verdict.sound


def test_what_may_not_be_deleted_is_named_and_the_rest_is(project: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(project)
    kept, deleted = object_of(project, "a\n"), object_of(project, "one\n")
    for damaged in (kept, deleted):
        overwrite(damaged, b"x\n")
    unlink = Path.unlink

    def refuse(path: Path, **options) -> None:  # root has access
        if path.name == kept.name:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert main(["verify-cache", "--delete"]) == 1
    said = capsys.readouterr().out
    assert f"{kept.relative_to(project)}: Permission denied" in said
    assert not deleted.exists()


def test_a_folder_that_can_not_be_read_is_named(project: Path, monkeypatch) -> None:
    folder = object_of(project, "one\n").parent
    listed, asked = Path.iterdir, Path.stat

    def refuse_list(path: Path):
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    def refuse_stat(path: Path, **options):
        if path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return asked(path, **options)

    monkeypatch.setattr(Path, "iterdir", refuse_list)
    monkeypatch.setattr(Path, "stat", refuse_stat)
    verdict = verify(project / OBJECTS, project, progress=False)
    assert verdict.unread == {folder: "Permission denied"}
    assert not verdict.sound


def test_outputs_of_every_pipeline_are_read(project: Path) -> None:
    """Outputs of a lock file are relative to its folder."""
    folder = project / "pipelines/extra"
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text(PIPELINE)
    shutil.copy(project / "dvc.lock", folder)
    shutil.copytree(project / "two", folder / "two")
    overwrite(folder / "two/a", b"x\n")
    object_of(project, "one\n").unlink()
    verdict = verify(project / OBJECTS, project, progress=False)
    stage = "pipelines/extra/dvc.yaml:"
    assert verdict.outputs == [(folder / "two/a", object_name(b"a\n"), {f"{stage}two: two"})]
    assert verdict.absent == ["one: one", f"{stage}one: one"]
    lock = (folder / "dvc.lock").read_text()
    (folder / "dvc.lock").write_text(lock.replace("path: one", "path: ../../../one"))
    with pytest.raises(UserError, match=r"outside this folder.*git checkout pipelines/extra/dvc\.lock"):
        verify(project / OBJECTS, project)
    (project / "dvc.lock").unlink()
    (folder / "dvc.lock").write_text(lock)
    assert verify(project / "none", project, progress=False).unlisted == [f"{stage}two: two"]


def test_a_subfolder_is_as_good(project: Path) -> None:
    overwrite(object_of(project, "one\n"), b"two\n")
    assert "part of one: one" in run(project / "two", "audionas", "verify-cache", fails=True)
