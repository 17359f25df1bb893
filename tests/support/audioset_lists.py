"""Folders of generated AudioSet lists, and the corpus that reads them."""

from audionas.data.corpora.audioset import Audioset
from audionas.data.corpora.audioset_lists import CLASS_LIST, TEST, TRAIN, UNBALANCED
from audionas.settings.corpora import AudiosetCorpus

HEAD = (
    "# Segments csv created\n# num_ytids=1, num_segs=1\n# YTID, start_seconds, end_seconds, positive_labels\n"
)


def section(folder, **keys):
    return AudiosetCorpus(
        **{"name": "audioset", "lists": str(folder), "audio": "audio", "valid_clips": 5, **keys}
    )


def audioset(folder, **keys):
    return Audioset(section(folder, **keys))


def ytid(number):
    return f"{number:011d}"


def row(number, start=0, end=None, labels="/m/1,/m/2"):
    video = number if isinstance(number, str) else ytid(number)
    return f'{video}, {start:.3f}, {start + 10 if end is None else end:.3f}, "{labels}"\n'


def write(folder, classes=2, **lists):
    """Create a folder of lists; `train`, `test` and `pool` are the rows of the official lists."""
    folder.mkdir(exist_ok=True)
    lines = [f'{i},/m/{i + 1},"Class {i + 1}, thing"\n' for i in range(classes)]
    (folder / CLASS_LIST).write_text("index,mid,display_name\n" + "".join(lines))
    names = {"train": TRAIN, "test": TEST, "pool": UNBALANCED}
    defaults = {
        "train": map(row, range(10)),
        "test": map(row, range(10, 20)),
        "pool": map(row, range(20, 60)),
    }
    for key, rows in {**defaults, **lists}.items():
        (folder / names.get(key, key)).write_text(HEAD + "".join(rows))
    return folder


def ids(clips):
    return [clip.clip_id for clip in clips]
