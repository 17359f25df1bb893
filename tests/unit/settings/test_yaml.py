"""How params.yaml is read: the values that DVC reads, and bounded work and words whatever the file holds."""

from pathlib import Path

import pytest
import tiny
import yaml
from dag import ROOT
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from audionas.cli import main
from audionas.runtime.errors import UserError
from audionas.settings.file import read_yaml
from audionas.systems.registry import load_config

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")

ODD = """1e-05 1e-5 1E5 1.e3 010 0o10 0x1F 0b11 1_000 1:30:00 yes no on off true True ~ null .inf -.inf .NaN
2001-01-01 12e03 +1 -0 0.10 '' .5 5. 1e5k = << 0o8 1__0 2001-01-01T00:00:00Z"""
SCALARS = st.one_of(
    st.sampled_from(ODD.split()),
    st.from_regex(r"[-+]?[0-9]{1,6}(\.[0-9]{0,4})?([eE][-+]?[0-9]{1,2})?", fullmatch=True),
    st.from_regex(r"0[0-9xob_]{1,6}", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}(:[0-5]?[0-9]){1,2}", fullmatch=True),
    st.text("aenosyYNOTRUE01.:-_ ", min_size=1, max_size=6),
)


def read_by_dvc(text: str):
    try:
        return parse_yaml(text, "params.yaml")
    except (YAMLFileCorruptedError, ValueError, AttributeError, TypeError):
        return "refused"


@settings(max_examples=400, deadline=None, derandomize=True)
@given(scalar=SCALARS)
def test_every_value_is_the_one_that_dvc_reads(tmp_path_factory, scalar):
    path = tmp_path_factory.getbasetemp() / "scalar.yaml"
    text = f"key: {scalar}\nlist: [{scalar}]\n"
    path.write_text(text, encoding="utf-8")
    try:
        ours = read_yaml(path)
    except UserError:
        ours = "refused"
    assert repr(ours) == repr(read_by_dvc(text))  # and of the same types; NaN is not itself


def test_what_dvc_writes_is_taken(tmp_path):
    """`dvc exp run -S finetune.learning_rate=0.00001` leaves this in the file."""
    from dvc.utils.serialize import dumps_yaml

    params = parse_yaml(PARAMS, "params.yaml")
    params["finetune"]["learning_rate"] = 0.00001
    path = tmp_path / "params.yaml"
    path.write_text(dumps_yaml(params))
    assert "1e-05" in path.read_text()
    assert load_config(path).finetune.learning_rate == 1e-5


def nested(depth: int, width: int) -> str:
    text = "&a0 [lol]"
    for i in range(1, depth):
        text = f"&a{i} [{text}" + f", *a{i - 1}" * (width - 1) + "]"
    return text


def changed(old: str, new: str) -> str:
    assert old in PARAMS
    return PARAMS.replace(old, new, 1)


HOSTILE = {
    "aliases": changed("[26k, 61k, 112k]", nested(9, 9)),
    "aliases in a name": changed("name: soundfont", f"name: {nested(9, 9)}"),
    "aliases in a key of its own": f"{PARAMS}\nbomb: {nested(9, 9)}\n",
    "alias of itself": changed("seeds: [0]", "seeds: &s [*s]"),
    "mapping of itself": changed("seed: 0", "seed: &s {a: *s}"),
    "no such anchor": changed("seeds: [0]", "seeds: *nobody"),
    "deep": changed("seeds: [0]", "seeds: " + "[" * 50_000 + "]" * 50_000),
    "deep mapping": f"{PARAMS}\nz: " + "{a: " * 3_000 + "1" + "}" * 3_000,
    "deep indentation": "".join(" " * i + "a:\n" for i in range(600)),
    "object": changed("name: soundfont", "name: !!python/object/apply:os.system ['touch pwned']"),
    "binary": changed("name: soundfont", "name: !!binary aGFs"),
    "set": changed("seeds: [0]", "seeds: !!set {0, 1}"),
    "date": changed("seeds: [0]", "seeds: [2001-99-99]"),
    "key that is a list": f"{PARAMS}\n? [a, b]\n: c\n",
    "key that is a mapping": f"{PARAMS}\n? {{a: b}}\n: c\n",
    "key that is a number": f"{PARAMS}\n7: c\n",
    "NUL": f"{PARAMS}\n\0\n",
    "NUL in a string": changed("lists: src", 'lists: "a\\0b" # src'),
    "line break in a string": changed("lists: src", 'lists: "a\\nb" # src'),
    "half of a surrogate": changed("lists: src", 'lists: "\\ud800" # src'),
    "integer of 5,000 digits": changed("seed: 0", "seed: " + "9" * 5_000),
    "hexadecimal of 9,000 digits": changed("seed: 0", "seed: 0x" + "f" * 9_000),
    "hexadecimal float": changed("learning_rate: 0.002", "learning_rate: 0x" + "f" * 9_000),
    "list of 300,000": changed("seeds: [0]", f"seeds: {list(range(300_000))}"),
    "list of 15,000": changed("seeds: [0]", f"seeds: {list(range(15_000))}"),
    "product of lists": changed("seeds: [0]", f"seeds: {list(range(1_000))}"),
    "keys": PARAMS + "\n" + "\n".join(f"k{i}: 1" for i in range(30_000)),
    "fewer keys": PARAMS + "\n" + "\n".join(f"k{i}: 1" for i in range(9_000)),
    "long key": f"{PARAMS}\n" + "k" * 1_000 + ": 1\n",
    "long string": changed("name: soundfont", "name: " + "s" * 200_000),
    "escape codes": f'{PARAMS}\n"\\e[31mred": 1\n',
    "empty": "",
    "scalar": "5",
    "only a tag": "!!map",
    "two documents": "a: 1\n---\nb: 2\n",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_in_few_words(tmp_path, content, capsys):
    path = tmp_path / "params.yaml"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert main(["check", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"audionas check: {path}") and said.count("\n") < 25 and len(said) < 8_000
    assert "\x1b" not in said and not Path("pwned").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_other_encodings_are_named(tmp_path, encoding):
    path = tmp_path / "params.yaml"
    path.write_bytes(PARAMS.replace("# Hz", "# é", 1).encode(encoding, "replace"))
    with pytest.raises(UserError, match="save the file as UTF-8"):
        load_config(path)


def test_a_pipe_in_place_of_the_file_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(UserError, match="not a file"):
        load_config(tmp_path / "params.yaml")


def test_anchors_and_merges_of_usual_size_are_read(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(changed("spaces: [2-2-x, x-x-x]", "spaces: [&space 2-2-x, x-x-x]").replace(
        "chosen_space: 2-2-x", "chosen_space: *space"))  # fmt: skip
    assert load_config(path).study.chosen_space == "2-2-x"


@pytest.mark.slow
def test_every_key_of_every_section_stands_in_the_file(tmp_path):
    """A default in the code would be a value that DVC does not see."""
    whole = yaml.safe_load((ROOT / "profiles/audioset.yaml").read_text())
    path = tmp_path / "params.yaml"

    def keys(section: dict, above: tuple = ()):
        for key, value in section.items():
            yield (*above, key)
            if isinstance(value, dict) and key not in ("client", "clips"):
                yield from keys(value, (*above, key))

    optional = {
        "system",
        "valid_list",
        "only_classes",
        "clips",
        "endpoint",
        "cookies",
        "proxy",
    }  # none by default
    for *above, last in keys(whole):
        short = yaml.safe_load(yaml.safe_dump(whole))
        section = short
        for key in above:
            section = section[key]
        del section[last]
        path.write_text(yaml.safe_dump(short))
        if last in optional:
            load_config(path)
            continue
        with pytest.raises(UserError) as caught:
            load_config(path)
        assert f"{'.'.join([*above, last])}: missing; add it" in str(caught.value) or last == "name"


def test_the_value_to_add_is_named(tmp_path):
    short = yaml.safe_load(PARAMS)
    del short["corpus"]["least_coverage"], short["search"]["evolution"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(short))
    with pytest.raises(UserError) as caught:
        load_config(path)
    said = str(caught.value)
    assert "corpus.least_coverage: missing; add it, for example with its default: least_coverage: 1.0" in said
    added = said.partition("with its default: evolution: ")[2].splitlines()[0]
    assert yaml.safe_load(added) == tiny.PARAMS["search"]["evolution"]
