"""Corpora: splits disjoint by source, bad lists refused with place and fix, clips that never change."""

import hashlib
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.data.corpora.audioset import read_classes
from audionas.data.corpora.base import FetchError, inside, safe_id
from audionas.data.corpora.registry import open_corpus
from audionas.data.corpora.sf2 import Note, SoundFont
from audionas.runtime.errors import UserError
from audionas.settings.corpora import (
    Esc50Corpus,
    FolderCorpus,
    SoundfontCorpus,
    SplitCounts,
    SplitFolds,
    SplitFractions,
    SplitShare,
)

INSTRUMENTS = Path(__file__).parents[3] / "src/audionas/data/corpora/instruments.csv"
FOLDS = SplitFolds(train=[1, 2, 3], valid=[5], test=[4])
FRACTIONS = SplitFractions(train=0.6, valid=0.2, test=0.2)


def require_sound(corpus):
    splits = corpus.splits()
    sources = [{clip.source for clip in splits[name]} for name in ("train", "valid", "test")]
    assert not sources[0] & sources[1] and not sources[0] & sources[2] and not sources[1] & sources[2]
    clips = [clip for part in splits.values() for clip in part]
    assert len({clip.clip_id for clip in clips}) == len(clips)
    known = {mid for mid, _ in corpus.classes()}
    assert all(clip.labels and set(clip.labels) <= known for clip in clips)
    assert corpus.splits() == splits
    return splits


# -- soundfont


def soundfont(train=56, seed=0, per_clip=(1, 3), lists=INSTRUMENTS, seconds=2.0):
    section = SoundfontCorpus(
        name="soundfont",
        lists=str(lists),
        audio=str(lists),
        clips=SplitCounts(train=train, valid=14, test=14),
        instruments_per_clip=list(per_clip),
        seed=seed,
    )
    return open_corpus(section, seconds)


def test_soundfont_is_sound_and_its_smallest_corpus_holds_every_class():
    corpus = soundfont(train=14)
    splits = require_sound(corpus)
    for part in splits.values():
        assert {label for clip in part for label in clip.labels} == {mid for mid, _ in corpus.classes()}
    assert not any(all(mid in clip.labels for clip in splits["train"]) for mid, _ in corpus.classes()), (
        "a constant class says nothing"
    )


def test_soundfont_labels_are_audiosets_with_their_ancestors(shared_data):
    official = dict(read_classes(shared_data / "audioset" / "class_labels_indices.csv"))
    corpus = soundfont()
    assert all(official[mid] == name for mid, name in corpus.classes())
    nodes = json.loads((shared_data / "audioset" / "ontology.json").read_text())
    parents = {child: node["id"] for node in nodes for child in node["child_ids"] if node["id"] in official}
    for instrument in corpus.instruments:
        for mid in instrument.mids:
            assert parents[mid] in instrument.mids or official[parents[mid]] == "Musical instrument"


def test_soundfont_is_the_same_to_the_byte_in_another_process():
    corpus = soundfont()
    clips = corpus.splits()["train"][:3]
    here = [hashlib.sha256(corpus.fetch(clip)).hexdigest() for clip in clips]
    code = (
        "import sys, pickle, hashlib; corpus, clips = pickle.load(sys.stdin.buffer);"
        "print(*[hashlib.sha256(corpus.fetch(c)).hexdigest() for c in reversed(clips)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps((corpus, clips)), capture_output=True, check=True
    )
    assert done.stdout.decode().split() == here[::-1]


def test_more_soundfont_clips_leave_the_first_ones_alone():
    few, many = soundfont(train=20), soundfont(train=90)
    assert many.splits()["train"][:20] == few.splits()["train"]
    assert np.array_equal(few.render("train", 7), many.render("train", 7))
    assert not np.array_equal(few.render("train", 7), few.render("valid", 7))
    assert not np.array_equal(few.render("train", 7), soundfont(seed=1).render("train", 7))


def test_soundfont_clips_are_heard_from_start_to_end():
    corpus = soundfont(seconds=4.0)
    for clip in corpus.splits()["train"][:14]:
        samples, rate = soundfile.read(io.BytesIO(corpus.fetch(clip)))
        assert (rate, samples.shape) == (44_100, (176_400,))
        assert 0.15 < np.abs(samples).max() <= 10 ** (-1 / 20)
        assert all(np.abs(part).max() > 1e-3 for part in np.split(samples, 2))


def test_player_meets_pitch_and_decay():
    player = soundfont()._player
    for program, sustains in ((0, False), (24, False), (40, True), (73, True)):
        wave = player.render(program, [Note(0.0, 2.0, 69, 90)], 2.5)
        spectrum = np.abs(np.fft.rfft(wave[4410:48_510] * np.hanning(44_100)))
        assert abs(12 * np.log2((np.argmax(spectrum[400:480]) + 400) / 440)) < 0.25, program
        early, late = (np.sqrt(np.mean(wave[at : at + 8820] ** 2)) for at in (8820, 79_380 - 8820))
        assert (late > 0.5 * early) == sustains, program
        assert np.abs(wave[-4410:]).max() < 0.1 * np.abs(wave).max(), program


def test_player_refuses_what_is_no_soundfont(tmp_path):
    (tmp_path / "x.sf2").write_bytes(b"RIFF\0\0\0\0WAVEjunk")
    with pytest.raises(UserError, match="not a SoundFont"):
        SoundFont(tmp_path / "x.sf2", 44_100)
    with pytest.raises(UserError, match="no such soundfont"):
        SoundFont(tmp_path / "y.sf2", 44_100)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0 1,0,36", "0 200,0,36", "line 2, column programs"),
        ("19,0,43", "19,2,43", "line 3, column drum"),
        (",43,84", ",43,x", "line 3, column high"),
        (",chords,", ",loudly,", "line 2, column style"),
        ("Piano|Keyboard (musical)", "Piano", "line 2, column mids"),
        ("instrument,", "tool,", "no column 'instrument'"),
    ],
)
def test_bad_instruments_are_refused_with_their_place(tmp_path, old, new, words):
    text = INSTRUMENTS.read_text()
    assert old in text
    (tmp_path / "list.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=words):
        soundfont(lists=tmp_path / "list.csv")


def test_more_instruments_than_listed_are_refused():
    with pytest.raises(UserError, match="instruments_per_clip asks for 99"):
        soundfont(per_clip=(1, 99))


# -- folder


def folder(tmp_path, text, split=FRACTIONS, files=(), **keys):
    audio = tmp_path / "audio"
    audio.mkdir(exist_ok=True)
    for name in files:
        (audio / name).write_bytes(name.encode())
    (tmp_path / "list.csv").write_text(text)
    section = FolderCorpus(
        name="folder", lists=str(tmp_path / "list.csv"), audio=str(audio), split=split, **keys
    )
    return open_corpus(section, 10.0)


def test_folder_by_fractions_splits_sources_not_clips(tmp_path):
    rows = "".join(f'{i}.wav,"a,b",{i // 4}\n' for i in range(80))
    splits = require_sound(folder(tmp_path, "file,positive_labels,source\n" + rows))
    assert {name: len(part) for name, part in splits.items()} == {"train": 48, "valid": 16, "test": 16}


def test_folder_by_folds(tmp_path):
    rows = "".join(f"{i}.wav,c{i % 2},{1 + i % 5}\n" for i in range(20))
    corpus = folder(tmp_path, "file,kind,fold\n" + rows, FOLDS, labels_column="kind", files=["3.wav"])
    splits = require_sound(corpus)
    assert len(splits["train"]) == 12
    assert corpus.fetch(splits["test"][0]) == b"3.wav"
    with pytest.raises(FetchError, match="no such file"):
        corpus.fetch(splits["test"][1])


def test_folder_by_folds_with_a_share_of_the_training_folds_to_validate(tmp_path):
    rows = "".join(f"{i}.wav,c{i % 2},s{i // 3},{(1, 2, 3, -1)[i // 15]}\n" for i in range(60))
    share = SplitShare(train=[1, 2], valid=0.3, test=[3])
    splits = require_sound(folder(tmp_path, "file,kind,source,fold\n" + rows, share, labels_column="kind"))
    sources = {name: {clip.source for clip in part} for name, part in splits.items()}
    assert {name: len(part) for name, part in splits.items()} == {"train": 21, "valid": 9, "test": 15}
    assert sources["valid"] <= {f"s{i}" for i in range(10)} and sources["test"] == {
        f"s{i}" for i in range(10, 15)
    }
    with pytest.raises(UserError, match=r"1 source recordings in folds \[3\] are too few"):
        rows = "".join(f"{i}.wav,a,s{i % 3},{1 + i % 3}\n" for i in range(9))
        one = SplitShare(train=[3], valid=0.5, test=[1])
        folder(tmp_path, "file,positive_labels,source,fold\n" + rows, one).splits()


def test_folds_that_part_a_source_are_refused(tmp_path):
    rows = "file,positive_labels,source,fold\n" + "".join(f"{i}.wav,a,s{i % 4},{i}\n" for i in range(1, 6))
    with pytest.raises(UserError, match=r"source recording 's1' .* is in train and in valid"):
        folder(tmp_path, rows, FOLDS).splits()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,positive_labels\na.wav,x\n", "no column 'file'"),
        ("file,labels\na.wav,x\n", "no column 'positive_labels'"),
        ("file,positive_labels\na.wav,x,y\n", "line 2: expected 2 fields"),
        ("file,positive_labels\na.wav,x\na.wav,y\n", "line 3, column file: 'a.wav' is already in line 2"),
        ("file,positive_labels\n", "lists no clip"),
        ("YTID, start_seconds, end_seconds, positive_labels\nabc, 0.0, x, q\n", "line 2, column end_seconds"),
        ("# x\nabc, 9.0, 1.0, q\n", "line 2, column end_seconds"),
        ("# x\nabc, 0.0, 1.0, q,r\n", "line 2: 5 fields"),
        ("# x\nabc, 0.0, 1.0, q\nabc, 0.0, 1.0, r\n", "line 3: the segment is already in line 2"),
    ],
)
def test_bad_lists_are_refused_with_their_place(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        folder(tmp_path, text)


def test_missing_folds_are_refused(tmp_path):
    with pytest.raises(UserError, match="no column 'fold'"):
        folder(tmp_path, "file,positive_labels\na.wav,x\n", FOLDS)
    for bad in ("one", "", "1.5", "1e1", "٣", "9" * 400):
        with pytest.raises(UserError, match=f"line 2, column fold: '{bad}'"):
            folder(tmp_path, f"file,positive_labels,fold\na.wav,x,{bad}\n", FOLDS)
    with pytest.raises(UserError, match=r"no clip of fold 2.*folds \[1\]"):
        folder(tmp_path, "file,positive_labels,fold\na.wav,x,1\n", FOLDS).splits()


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.wav", "a/../../x.wav", "C:\\x.wav", "..\\x.wav"])
def test_paths_that_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"line 2, column file.*leaves"):
        folder(tmp_path, f"file,positive_labels\n{name},x\n")


def test_links_that_leave_a_folder_of_others_are_refused(tmp_path):
    (tmp_path / "secret.wav").write_bytes(b"x")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(UserError, match="link that leaves"):
        inside(tmp_path / "audio", "a.wav", "list.csv, line 1")
    with pytest.raises(UserError, match="leaves"):
        folder(tmp_path, "# x\n../secret, 0.0, 1.0, q\n")
    with pytest.raises(UserError, match="leaves"):
        inside(tmp_path / "audio", "", "list.csv, line 1")


def test_segment_lists_find_files_by_their_usual_names(tmp_path):
    ytids = ["-ab_c", "q1", "q2", "q3", "q4"]
    text = "# a comment\n# YTID, start_seconds, end_seconds, positive_labels\n"
    text += "".join(f'{ytid}, 30.000, 40.000, "/m/1,/m/2"\n' for ytid in ytids)
    files = ["-ab_c.wav", "Yq1.flac", "q2_30.000.ogg", "q3_30000.wav"]
    corpus = folder(tmp_path, text, files=files)
    clips = {clip.source: clip for part in corpus.splits().values() for clip in part}
    assert [corpus.fetch(clips[ytid]).decode() for ytid in ytids[:4]] == files
    assert clips["-ab_c"].clip_id == "Y-ab_c_30000" and clips["q1"].labels == ("/m/1", "/m/2")
    with pytest.raises(FetchError, match="no such file"):
        corpus.fetch(clips["q4"])
    # A file that comes after the lists were made is found by the same clip.
    assert folder(tmp_path, text, files=["q4.mp3"]).fetch(clips["q4"]) == b"q4.mp3"


def test_same_stem_twice_gives_two_ids(tmp_path):
    text = "file,positive_labels\n" + "".join(f"{n},x\n" for n in ("a.wav", "a.ogg", "A.wav", "b.wav"))
    require_sound(folder(tmp_path, text))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=120), unique=True, min_size=2, max_size=8))
def test_clip_ids_are_safe_and_unique(texts):
    ids = [safe_id(text) for text in texts]
    assert len(set(ids)) == len(ids)
    for clip_id in ids:
        assert len(clip_id) <= 132 and not clip_id.startswith("-")
        assert re.fullmatch(r"[A-Za-z0-9_-]+", clip_id)


# -- ESC-50


def esc50(path, name="esc50", split=FOLDS):
    return open_corpus(Esc50Corpus(name=name, lists=str(path), audio=str(path), split=split), 10.0)


def test_esc10_copy(shared_data):
    corpus = esc50(shared_data / "esc10", "esc10")
    splits = require_sound(corpus)
    assert {name: len(part) for name, part in splits.items()} == {"train": 240, "valid": 80, "test": 80}
    assert len(corpus.classes()) == 10 and ("sea_waves", "Sea waves") in corpus.classes()
    assert corpus.fetch(splits["train"][0])[:4] == b"OggS"


def archive(folder):
    """A made archive in the published form: 2 recordings a fold, 2 takes each."""
    root = folder / "ESC-50-master"
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for i, category in enumerate(("dog", "can_opening")):
            for take in "AB":
                name = f"{fold}-{fold}0{i}-{take}-{i}.wav"
                lines.append(f"{name},{fold},{i},{category},{i == 0},{fold}0{i},{take}")
                (root / "audio" / name).write_bytes(name.encode())
    (root / "meta/esc50.csv").write_text("\n".join(lines) + "\n")
    return root


def test_published_archive_unpacked_and_zipped(tmp_path):
    root = archive(tmp_path)
    shutil.make_archive(str(tmp_path / "esc"), "zip", tmp_path, "ESC-50-master")
    corpora = [esc50(path) for path in (root, tmp_path, tmp_path / "esc.zip")]
    assert corpora[0].splits() == corpora[1].splits() == corpora[2].splits()
    for corpus in corpora:
        clip = require_sound(corpus)["train"][0]
        assert pickle.loads(pickle.dumps(corpus)).fetch(clip) == clip.origin.encode()  # noqa: S301
    assert esc50(tmp_path / "esc.zip", "esc10").classes() == [("dog", "Dog")]


def test_bad_esc50_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither the ESC-50 archive"):
        esc50(tmp_path)
    (tmp_path / "no.zip").write_bytes(b"junk")
    with pytest.raises(UserError, match="not a zip archive"):
        esc50(tmp_path / "no.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme", "x")
    with pytest.raises(UserError, match=r"meta/esc50\.csv is missing"):
        esc50(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "short.zip", "w") as file:
        file.writestr("meta/esc50.csv", "filename,fold,category\n1-2-A-0.wav,1\n")
    with pytest.raises(UserError, match=r"esc50\.csv, line 2: expected 3 fields"):
        esc50(tmp_path / "short.zip")
    (tmp_path / "clips.csv").write_text("file,fold,category\nbark.wav,1,dog\n")
    with pytest.raises(UserError, match=r"line 2, column file: 'bark\.wav' is not named"):
        esc50(tmp_path)
    (tmp_path / "clips.csv").write_text(
        "file,fold,category\n1-1-A.wav,1,dog\n2-1-A.wav,5,dog\n3-2-A.wav,7,dog\n"
    )
    with pytest.raises(UserError, match="no clip of fold 2"):
        esc50(tmp_path).splits()
    with pytest.raises(UserError, match="source recording '1'"):
        esc50(tmp_path, split=SplitFolds(train=[1], valid=[5], test=[7])).splits()
