"""Stages `segments`, `download` and `resample` on a folder with every kind of invalid file."""

import hashlib
import io
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionas.data.corpora.folder import Folder
from audionas.data.ledger import CLASSES, DOWNLOAD, RESAMPLE, SEGMENTS, read_rows, write_rows
from audionas.data.shards import extension, read_shard, write_shard
from audionas.data.store import ClipStore, ClipStoreWriter
from audionas.runtime.errors import UserError
from audionas.runtime.parallel import background
from audionas.settings.audio import Audio, Features
from audionas.settings.corpora import FolderCorpus, SplitFolds
from audionas.systems.common import download, logmel, resample, segments
from audionas.systems.once_for_all.config import Config, Network, Study


def wav(samples, rate=16_000, subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


NOISE = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
BAD = {  # name: (bytes, None for a file that is not there; reason)
    "empty": (b"", "empty"),
    "nan": (wav(np.where(np.arange(16_000) == 5, np.nan, NOISE), subtype="FLOAT"), "non-finite"),
    "cut": (wav(NOISE)[:9_000], "truncated"),
    "page": (b"<html></html>" * 99, "not audio"),
    "silent": (wav(0 * NOISE), "silent"),
    "short": (wav(NOISE[:500]), "too short"),
    "absent": (None, "download: no such file (absent.wav)"),
}


SECTIONS = ("augment", "training", "teacher", "distillation", "supernet")
SECTIONS += ("calibration", "search", "individual", "finetune", "deploy")


def make_config(num_classes=2):
    rest = {name: {} for name in SECTIONS}
    return Config(
        **rest,
        corpus=FolderCorpus(
            name="folder", lists="list.csv", audio="audio", split=SplitFolds(train=[1], valid=[2], test=[3])
        ),
        audio=Audio(sample_rate=16_000, clip_seconds=1.0),
        features=Features(fmax=8_000.0, hop=160),
        network=Network(num_classes=num_classes),
        study=Study(spaces=["2-2-x"], constraints=["0.9M"], sizes=["0.6x1"], finetune_iterations=[1]),
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder corpus with 3 valid clips per fold, and every kind of invalid file in fold 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIONAS_WORKERS", "1")
    (tmp_path / "audio").mkdir()
    lines = ["file,positive_labels,fold"]
    for fold in (1, 2, 3):
        for i in range(3):
            name = f"good{fold}{i}.wav"
            (tmp_path / "audio" / name).write_bytes(wav((i + 1) / 4 * NOISE, (8_000, 16_000, 44_100)[i]))
            labels = ("cat", "dog", '"cat,dog"')[i]
            lines.append(f"{name},{labels},{fold}")
            if fold == 1 and i == 1:
                for bad, (data, _) in BAD.items():
                    lines.append(f"{bad}.wav,dog,1")
                    if data is not None:
                        (tmp_path / "audio" / f"{bad}.wav").write_bytes(data)
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_every_clip_has_its_row_and_only_good_ones_an_example(project):
    config = make_config()
    segments.run(config)
    listed = read_rows("data/segments/train.csv", SEGMENTS)
    assert read_rows("data/segments/classes.csv") == [
        {"index": "0", "mid": "cat", "display_name": "cat"},
        {"index": "1", "mid": "dog", "display_name": "dog"},
    ]
    download.run(config, "train")
    raw = read_rows("data/raw/train/ledger.csv", DOWNLOAD)
    assert [row["clip_id"] for row in raw] == [row["clip_id"] for row in listed]
    assert len(raw) == 3 + len(BAD)
    for row in raw:
        if row["status"] == "ok":
            data = (project / "audio" / f"{row['clip_id']}.wav").read_bytes()
            assert (int(row["bytes"]), row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        else:
            assert (row["clip_id"], row["reason"]) == ("absent", "no such file (absent.wav)")
    assert not any((project / ".state/download").iterdir())

    resample.run(config, "train")
    ledger = read_rows("data/audio/train.ledger.csv", RESAMPLE)
    assert [row["clip_id"] for row in ledger] == [row["clip_id"] for row in listed]
    failed = {row["clip_id"]: row["reason"] for row in ledger if row["status"] == "failed"}
    assert failed == {name: why for name, (_, why) in BAD.items()}
    notes = {row["clip_id"]: row["note"] for row in ledger if row["status"] == "ok"}
    assert notes == {"good10": "upsampled:8000;trimmed", "good11": "", "good12": "padded"}
    store = ClipStore("data/audio/train.h5", {"audio": config.audio.model_dump()})
    assert store.clip_ids == ["good10", "good11", "good12"] and store.classes == ["cat", "dog"]
    assert store.labels.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert store.data.shape == (3, 16_000) and store.data.dtype == np.int16
    assert (np.abs(store.data[:].astype(int)).max(axis=1) > 100).all()
    expected, _ = soundfile.read(project / "audio/good11.wav", dtype="int16")
    assert np.abs(store.data[1].astype(int) - expected).max() <= 1


def test_download_is_the_same_to_the_byte_and_resumes(project, monkeypatch):
    config = make_config()
    segments.run(config)
    download.run(config, "valid")
    first = {path.name: path.read_bytes() for path in (project / "data/raw/valid").iterdir()}
    with tarfile.open(project / "data/raw/valid/shard-000000.tar") as tar:
        assert [member.name for member in tar] == ["good20.wav", "good21.wav", "good22.wav"]
        assert all((member.mtime, member.uid, member.uname) == (0, 0, "") for member in tar)

    monkeypatch.setattr(download, "CLIPS", 1)
    fetch, calls = Folder.fetch, []

    def in_process(function, items, *, initializer, initargs, lost):
        initializer(*initargs)
        return map(function, items)

    def fetch_twice(self, clip):
        calls.append(clip.clip_id)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fetch(self, clip)

    monkeypatch.setattr(download, "ordered_map", in_process)
    monkeypatch.setattr(Folder, "fetch", fetch_twice)
    with pytest.raises(KeyboardInterrupt):
        download.run(config, "valid")
    download.run(config, "valid")
    assert calls == ["good20", "good21", "good22", "good22"]  # finished clips are not downloaded again
    assert len(list((project / "data/raw/valid").glob("*.tar"))) == 3
    assert (project / "data/raw/valid/ledger.csv").read_bytes() == first["ledger.csv"]
    tars = sorted((project / "data/raw/valid").glob("*.tar"))
    names = [name for tar in tars for name, _ in read_shard(tar)]
    assert names == ["good20", "good21", "good22"]


def test_resampling_goes_on_after_a_kill_and_gives_the_same_bytes(project, monkeypatch):
    config = make_config()
    segments.run(config)
    for module in (download, resample):
        monkeypatch.setattr(module, "CLIPS", 2)
    download.run(config, "train")
    resample.run(config, "train")
    outputs = [Path("data/audio/train.h5"), Path("data/audio/train.ledger.csv")]
    whole = [path.read_bytes() for path in outputs]
    for path in outputs:
        path.unlink()

    calls = []

    def in_turn(function, items):
        for item in items:
            calls.append(item)
            if len(calls) == 6:
                raise KeyboardInterrupt
            yield function(item)

    monkeypatch.setattr(resample, "threaded_map", in_turn)
    with pytest.raises(KeyboardInterrupt):
        resample.run(config, "train")
    assert not outputs[0].exists()
    resample.run(config, "train")
    # 10 clips in shards of 2: two shards were finished, and what the third had begun comes again.
    assert len(calls) == 10 + 2
    assert [path.read_bytes() for path in outputs] == whole
    assert not list(Path(".state/resample").iterdir())


def test_log_mel_goes_on_after_a_kill_and_gives_the_same_bytes(project, monkeypatch):
    config = make_config()
    segments.run(config)
    download.run(config, "train")
    resample.run(config, "train")
    logmel.run(config, "train")
    output = Path("data/logmel/train.h5")
    whole, rows = output.read_bytes(), []
    output.unlink()

    def in_turn(function, items, *, initializer):
        for item in items:
            rows.append(item)
            if len(rows) == 3:
                raise KeyboardInterrupt
            yield function(item)

    monkeypatch.setattr(logmel, "_BLOCK", 1)
    monkeypatch.setattr(logmel, "threaded_map", in_turn)
    with pytest.raises(KeyboardInterrupt):
        logmel.run(config, "train")
    assert not output.exists()
    logmel.run(config, "train")
    assert rows == [0, 1, 2, 2] and output.read_bytes() == whole
    assert not list(Path(".state/logmel").iterdir())


@pytest.mark.parametrize("stage", [resample, logmel])
def test_marks_without_the_rows_they_promise_are_not_believed(project, monkeypatch, stage):
    config = make_config()
    segments.run(config)
    download.run(config, "train")
    resample.run(config, "train")
    logmel.run(config, "train")
    output = Path("data", {resample: "audio", logmel: "logmel"}[stage], "train.h5")
    whole = output.read_bytes()
    publish = ClipStoreWriter.publish

    def killed(*args):  # the store is in its place, the state not yet removed; then DVC removes the store
        publish(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ClipStoreWriter, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config, "train")
    output.unlink()
    stage.run(config, "train")
    assert output.read_bytes() == whole


def test_state_of_other_parameters_goes_and_is_not_gone_on_with(project, monkeypatch):
    config = make_config()
    segments.run(config)
    download.run(config, "train")
    monkeypatch.setattr(resample, "write_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    seen = set()
    for min_seconds in (0.1, 0.2):
        for clips in (2, 3):
            monkeypatch.setattr(resample, "CLIPS", clips)
            monkeypatch.setattr(download, "CLIPS", clips)
            download.run(config, "train")
            changed = config.model_copy(
                update={"audio": config.audio.model_copy(update={"min_seconds": min_seconds})}
            )
            with pytest.raises(KeyboardInterrupt):
                resample.run(changed, "train")
            (folder,) = Path(".state/resample").iterdir()
            seen.add(folder.name)
    assert len(seen) == 4


def test_a_label_without_a_class_is_named_before_any_work(project):
    config = make_config()
    segments.run(config)
    download.run(config, "valid")
    path = Path("data/segments/valid.csv")
    path.write_text(path.read_text().replace("dog", "horse", 1))
    with pytest.raises(UserError, match=r"valid\.csv, clip good2\d: its label 'horse' is not in"):
        resample.run(config, "valid")


def test_background_work_that_failed_stops_what_follows():
    done = []

    def fail():
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"), background() as call:
        call(done.append, 1)
        call(fail)
        for _ in range(100):
            call(done.append, 2)
            time.sleep(0.001)
    assert done == [1]


def test_a_download_of_another_list_is_refused(project):
    config = make_config()
    segments.run(config)
    download.run(config, "valid")
    path = Path("data/raw/valid/ledger.csv")
    lines = path.read_text().splitlines(keepends=True)
    for changed, message in (
        (lines[:1] + lines[2:], "good20 of the list should come next"),
        (lines[:-1], "good22 of the list should come next"),
        ([*lines, lines[-1].replace("good22", "good23")], "good23 is not on the list"),
    ):
        path.write_text("".join(changed))
        with pytest.raises(UserError, match=message):
            resample.run(config, "valid")


def test_nothing_got_or_nothing_decoded_is_an_error(project):
    config = make_config()
    segments.run(config)
    for path in (project / "audio").glob("good2*"):
        path.unlink()
    with pytest.raises(
        UserError, match=r"valid: not one of 3 clips could be downloaded \(no such file \(good20\.wav\)\)"
    ):
        download.run(config, "valid")
    assert not (project / "data/raw/valid").exists()
    for i in range(3):  # add the missing audio, so that failed clips are tried again
        (project / "audio" / f"good2{i}.wav").write_bytes(wav(NOISE))
    download.run(config, "valid")
    assert (project / "data/raw/valid/ledger.csv").read_text().count(",ok,") == 3
    for path in (project / "audio").glob("good3*"):
        path.write_bytes(b"junk" * 99)
    download.run(config, "test")
    with pytest.raises(UserError, match=r"test: not one of 3 clips could be decoded \(not audio\)"):
        resample.run(config, "test")
    assert [path.name for path in (project / "data/audio").iterdir()] == ["test.ledger.csv"]


def test_segments_refuses_what_cannot_be_trained(project):
    with pytest.raises(UserError, match=r"set network\.num_classes to 2"):
        segments.run(make_config(num_classes=5))
    with (project / "list.csv").open("a") as file:
        file.write("good20b.wav,horse,2\n")
    with pytest.raises(UserError, match="no training clip for horse"):
        segments.run(make_config(num_classes=3))
    assert not [path for path in (project / "data").rglob("*") if path.is_file()]


def test_segments_refuses_a_split_on_which_nothing_can_be_measured(project):
    """Average precision is 100 for any scores if every clip has the class."""
    alike = [f"good{fold}{i}.wav,dog,{fold}\n" for fold in (1, 2, 3) for i in range(3)]
    (project / "list.csv").write_text("file,positive_labels,fold\n" + "".join(alike))
    with pytest.raises(UserError, match=r"list\.csv: every training clip has every class \(dog\)"):
        segments.run(make_config(num_classes=1))
    with (project / "list.csv").open("a") as file:
        file.write("good13.wav,cat,1\n")
    with pytest.raises(UserError, match=r"list\.csv: every clip of the split valid has the same labels: dog"):
        segments.run(make_config(num_classes=2))
    assert not [path for path in (project / "data").rglob("*") if path.is_file()]


def test_damaged_shards_are_refused(project):
    config = make_config()
    segments.run(config)
    download.run(config, "valid")
    shard = project / "data/raw/valid/shard-000000.tar"
    write_shard(shard, [("other", wav(NOISE))])
    with pytest.raises(UserError, match="good20 should come next and other does"):
        resample.run(config, "valid")
    write_shard(shard, [(f"good2{i}", wav(NOISE)) for i in range(4)])
    with pytest.raises(UserError, match="good23 is not in the ledger; delete the file and run"):
        resample.run(config, "valid")
    shard.write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match="damaged"):
        resample.run(config, "valid")
    with tarfile.open(shard, "w") as tar:
        tar.addfile(tarfile.TarInfo("../outside.wav"))
    with pytest.raises(UserError, match="is not a clip"):
        resample.run(config, "valid")
    assert not (project / "data/audio/valid.h5").exists()


def test_extension_follows_the_bytes():
    assert extension(wav(NOISE)) == "wav" and extension(b"OggS....") == "ogg" and extension(b"??") == "bin"


def test_lists_are_checked(tmp_path):
    path = tmp_path / "x.csv"
    write_rows(path, CLASSES, [{"index": 0, "mid": "/m/1", "display_name": 'a, "b"'}])
    assert read_rows(path, CLASSES)[0]["display_name"] == 'a, "b"'
    with pytest.raises(ValueError):
        write_rows(path, CLASSES, [{"color": 1}])
    assert len(read_rows(path)) == 1 and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UserError, match="no such file"):
        read_rows(tmp_path / "y.csv")
    with pytest.raises(UserError, match="Is a directory; fix the path"):
        read_rows(tmp_path)
    path.write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(UserError, match="not readable"):
        read_rows(path)


def test_a_flipped_byte_of_a_shard_is_noticed_and_its_clip_named(project):
    config = make_config()
    segments.run(config)
    download.run(config, "valid")
    shard = project / "data/raw/valid/shard-000000.tar"
    content = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        member = tar.getmembers()[1]
    content[member.offset_data + member.size - 9] ^= 1  # a sample
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"shard-000000\.tar: the audio of good21 does not match its ledger"):
        resample.run(config, "valid")
    assert not (project / "data/audio/valid.h5").exists()
    shard.unlink()
    with pytest.raises(UserError, match=r"shard-000000\.tar: no such file; make it with `dvc repro`"):
        resample.run(config, "valid")
    download.run(config, "valid")
    resample.run(config, "valid")


def test_a_member_that_claims_more_than_its_shard_holds_is_refused(tmp_path):
    path = tmp_path / "shard-000000.tar"
    write_shard(path, [("one", wav(NOISE)), ("two", wav(NOISE))])
    for change in ({"size": 8**10}, {"type": tarfile.SYMTYPE}, {"type": tarfile.GNUTYPE_SPARSE}):
        with tarfile.open(path) as tar:
            member = tar.getmembers()[1]
        for name, value in change.items():
            setattr(member, name, value)
        content = path.read_bytes()
        at = member.offset_data - 512
        (tmp_path / "x.tar").write_bytes(content[:at] + member.tobuf()[:512] + content[at + 512 :])
        with pytest.raises(UserError, match=r"x\.tar: (damaged|the member 'two\.wav')"):
            list(read_shard(tmp_path / "x.tar"))
