"""Files of events: each format is read back, and a folder holds the events of one setting."""

import csv
import io
import json
import os

import pytest

from audionas.deploy.event_files import FORMATS, EventFolder, clock, event_line, head, report
from audionas.deploy.events import Event
from audionas.deploy.recordings import find_recordings
from audionas.runtime.errors import UserError

EVENTS = [
    Event(3.25, 3599.96, "/m/1", 'Dog, "barking"', 0.98765),
    Event(0.0, 2.0, "/m/2", "Regen\tund\nWind \x1b[31m", 0.5),
]


def test_csv_is_read_back():
    text = head("csv") + report(EVENTS, "a,b.wav", "csv", 9.0)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["start", "end", "class", "name", "probability", "recording"]
    assert [float(row["start"]) for row in rows] == [0.0, 3.25]
    assert rows[1] == {
        "start": "3.25",
        "end": "3599.96",
        "class": "/m/1",
        "name": 'Dog, "barking"',
        "probability": "0.9877",
        "recording": "a,b.wav",
    }
    assert "\x1b" not in text


def test_json_lines_are_read_back():
    text = report(EVENTS, "a\udcff.wav", "json", 9.0)
    first, second = (json.loads(one) for one in text.splitlines())
    assert (
        first["name"] == EVENTS[1].name and first["class"] == "/m/2" and first["recording"] == "a\udcff.wav"
    )
    assert (second["start"], second["end"], second["probability"]) == (3.25, 3599.96, 0.9877)
    assert text.isascii() and "\x1b" not in text


def test_an_audacity_label_is_three_columns_on_a_line():
    """Start, end, label: https://manual.audacityteam.org/man/importing_and_exporting_labels.html"""
    rows = [row.split("\t") for row in report(EVENTS, "a.wav", "audacity", 9.0).splitlines()]
    assert rows[0] == ["0.000000", "2.000000", "Regen und Wind \\x1b[31m"]
    assert rows[1] == ["3.250000", "3599.960000", 'Dog, "barking"']


def test_text_says_when_there_is_no_event():
    assert report([], "a.wav", "text", 9.0) == "a.wav (0:00:09.0): no events\n"
    said = report(EVENTS, "a.wav", "text", 3600.0).splitlines()
    assert said[0] == "a.wav (1:00:00.0)"
    assert said[2].split()[:3] == ["0:00:03.2", "1:00:00.0", "0.988"]
    assert "\t" not in event_line(EVENTS[1], "a.wav", "text")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00.0"), (59.96, "0:01:00.0"), (36_000.1, "10:00:00.1")]
)
def test_a_clock(seconds, text):
    assert clock(seconds) == text


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_a_recording_is_finished_once_it_is_written_and_until_it_changes(tmp_path, recording, kind):
    out = tmp_path / "out"
    assert not EventFolder(out, kind, {"window": 2.0}).finished("sub/a.wav", recording)
    folder = EventFolder(out, kind, {"window": 2.0})
    folder.write("sub/a.wav", report(EVENTS, "sub/a.wav", kind, 9.0))
    assert folder.finished("sub/a.wav", recording)
    assert EventFolder(out, kind, {"window": 2.0}).finished("sub/a.wav", recording)
    assert folder.file("sub/a.wav").read_text().startswith(head(kind))
    later = folder.file("sub/a.wav").stat().st_mtime + 10
    os.utime(recording, (later, later))
    assert not folder.finished("sub/a.wav", recording)
    assert not folder.finished("sub/a.wav", tmp_path / "none.wav")


def test_events_of_other_settings_are_not_mixed(tmp_path):
    out = tmp_path / "out"
    EventFolder(out, "csv", {"window": 2.0, "sha256": "1" * 64})
    with pytest.raises(UserError, match=r"other settings \(window 2\.0, not 3\.0\); give another folder"):
        EventFolder(out, "csv", {"window": 3.0, "sha256": "1" * 64})
    with pytest.raises(UserError, match=r'sha256 "1111.*format "csv", not "json"'):
        EventFolder(out, "json", {"window": 2.0, "sha256": "2" * 64})


def test_a_folder_of_other_files_is_left_alone(tmp_path, recording):
    with pytest.raises(UserError, match="has files, but not of `audionas classify --output`"):
        EventFolder(tmp_path, "csv", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    with pytest.raises(UserError, match=r"a\.wav: Not a directory"):
        EventFolder(recording, "csv", {})
    (tmp_path / ".classify.json").write_text("{")
    with pytest.raises(UserError, match=r"\.classify\.json: damaged"):
        EventFolder(tmp_path, "csv", {})


def test_recordings_of_a_folder_are_found_in_order_and_not_outside(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    for path in ("b.WAV", "a/z.flac", "a/c.mp3", "notes.txt", ".hidden.wav", ".Trash/x.wav", "a/._c.mp3"):
        (inside / path).parent.mkdir(parents=True, exist_ok=True)
        (inside / path).write_bytes(b"")
    outside.mkdir()
    (outside / "x.wav").write_bytes(b"")
    (inside / "loop").symlink_to(inside)
    (inside / "else").symlink_to(outside)
    (inside / "x.wav").symlink_to(outside / "x.wav")
    (inside / "same.wav").symlink_to(inside / "b.WAV")
    (inside / "gone.wav").symlink_to(inside / "none.wav")
    (inside / "folder.wav").mkdir()
    os.mkfifo(inside / "pipe.wav")
    found = [str(path.relative_to(inside)) for path in find_recordings(inside)]
    assert found == ["b.WAV", "same.wav", "a/c.mp3", "a/z.flac"]
    with pytest.raises(UserError, match=r"folder\.wav: no audio file in this folder"):
        list(find_recordings(inside / "folder.wav"))
