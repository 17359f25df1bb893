"""params.yaml: what is wrong is named, with the fix, before anything runs."""

import subprocess

import pytest
import tiny
import yaml
from dag import ROOT

from audionas.cli import main
from audionas.runtime.errors import UserError
from audionas.systems.once_for_all.study import check
from audionas.systems.registry import load_config


@pytest.mark.parametrize(
    "path", ["params.yaml", *sorted(f"profiles/{p.name}" for p in (ROOT / "profiles").glob("*.yaml"))]
)
def test_shipped_experiments_are_well_formed(path):
    check(load_config(ROOT / path))


def test_the_audioset_profile_is_the_paper():
    config = load_config(ROOT / "profiles" / "audioset.yaml")
    assert (config.network.num_classes, config.network.base_channels, config.frames) == (527, 64, 1001)
    assert (config.training.batch_size, config.training.learning_rate) == (64, 0.001)
    assert (config.teacher.iterations, config.individual.iterations) == (400_000, 100_000)
    assert config.supernet.largest_iterations == 100_000 and config.supernet.sampled_iterations == 200_000
    assert (config.supernet.networks_per_step, config.search.population) == (4, 25)
    assert config.study.constraints == ["0.9M", "1.8M", "2.7M", "3.6M"] and len(config.study.spaces) == 4
    assert config.study.finetune_iterations == [10_000, 100_000] and config.corpus.valid_clips == 28_339


def broken(tmp_path, section, **values):
    changed = {name: dict(part) for name, part in tiny.PARAMS.items()}
    changed.setdefault(section, {}).update(values)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed))
    return path


@pytest.mark.parametrize(
    "section, values, message",
    [
        ("training", {"lerning_rate": 1}, r"training\.lerning_rate: no such key"),
        ("training", {"batch_size": "many"}, r"training\.batch_size: .*integer.*'many'"),
        ("training", {"batch_size": 0}, r"training\.batch_size: .*greater than 0"),
        ("training", {"learning_rate": "fast"}, r"training\.learning_rate: .*number"),
        ("teacher", {"iterations": 1.5}, r"teacher\.iterations"),
        (
            "augment",
            {"time_mask_frames": 33},
            r"augment\.time_mask_frames 33 is not shorter than .* 33 frames",
        ),
        ("augment", {"mel_mask_bins": 16}, r"augment\.mel_mask_bins 16 is not narrower"),
        ("features", {"fmax": 20_000.0}, r"features\.fmax 20000, .* 16000 Hz"),
        ("features", {"mels": 8}, r"poolings"),
        ("network", {"num_classes": None}, r"network\.num_classes"),
        ("search", {"tolerance": "much"}, r"search\.tolerance: 'much' is not a number of parameters"),
        ("study", {"spaces": ["y-y-y"]}, r"study\.spaces\.0"),
        ("study", {"spaces": ["ew"]}, r"chosen_space '2-2-x' is not in spaces"),
        ("study", {"seeds": [1, 1]}, r"study\.seeds: an entry appears twice"),
        ("study", {"sizes": ["0.6"]}, r"study\.sizes\.0: '0.6' is not a uniform network"),
        ("corpus", {"name": "tape"}, r"corpus: .*'soundfont'"),
        ("corpus", {"instruments_per_clip": [3, 1]}, r"smaller first"),
        ("study", {"seeds": [-1]}, r"study\.seeds\.0: .*greater than or equal to 0"),
        ("study", {"constraints": ["5 k"]}, r"study\.constraints\.0: '5 k' is not a budget"),
        ("study", {"constraints": ["5k", "5000"]}, r"study\.constraints: an entry appears twice"),
        ("features", {"n_fft": 2**18}, r"features\.n_fft 262144 does not fit"),
        ("features", {"n_fft": 2**15, "hop": 1}, "a transform of 32,768 samples for each of 32,001 frames"),
        ("audio", {"clip_seconds": float("inf")}, r"audio\.clip_seconds: .*finite"),
        ("nothing", {"at": "all"}, r"nothing: no such key"),
    ],
)
def test_errors_name_the_file_the_key_and_the_mend(tmp_path, section, values, message):
    with pytest.raises(UserError, match=message) as caught:
        load_config(broken(tmp_path, section, **values))
    assert "params.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "section, key, meant",
    [
        ("training", "lerning_rate", "learning_rate"),
        ("search", "tolerence", "tolerance"),
        ("corpus", "clip", "clips"),  # of the soundfont's keys alone
        ("traning", "threads", "training"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_nearest(tmp_path, section, key, meant):
    with pytest.raises(UserError) as caught:
        load_config(broken(tmp_path, section, **{key: 1}))
    wrong = section if section == "traning" else f"{section}.{key}"
    assert f"{wrong}: no such key; did you mean {meant}?" in str(caught.value)


@pytest.mark.parametrize("key", ["unbalanced_list", "folder", "x" * 100])
def test_no_key_is_suggested_where_none_is_near_or_another_corpus_has_it(tmp_path, key):
    with pytest.raises(UserError, match="no such key; remove it or fix its spelling"):
        load_config(broken(tmp_path, "corpus", **{key: 1}))
    with pytest.raises(UserError, match="no such key; remove it or fix its spelling"):
        load_config(broken(tmp_path, key, value=1))


def test_a_constraint_that_no_subnetwork_meets_is_named_with_the_nearest(tmp_path):
    config = load_config(broken(tmp_path, "study", constraints=["5k", "1M"]))
    with pytest.raises(UserError, match=r"study.constraints: 1M: no sub-network .* nearest have"):
        check(config)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [1\n", "a: 1\na: 2\n", "!!python/object:os.system {}\n"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml(, line \d+)?: "):
        load_config(tmp_path / "params.yaml")


def test_a_missing_section_and_a_folder_in_place_of_the_file_are_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in tiny.PARAMS.items() if k != "augment"}))
    with pytest.raises(UserError, match="augment: missing; add it"):
        load_config(path)
    with pytest.raises(UserError, match="not readable"):
        load_config(tmp_path)


def test_a_key_left_out_is_named_with_the_papers_value(tmp_path):
    short = {name: dict(part) for name, part in tiny.PARAMS.items()}
    del short["network"]["block_dropout"], short["training"]["gpus"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(short))
    with pytest.raises(UserError, match=r"(?s)block_dropout: missing; .*: 0\.2.*training\.gpus: missing"):
        load_config(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "/etc/passwd"],
        ["evaluate", "models/../x.pt"],
        ["individual", "--recipe", "kd", "--size", "big", "--seed", "0"],
        ["search", "--space", "ew", "--constraint", "abc", "--seed", "0"],
    ],
)
def test_bad_arguments_are_refused_by_the_command_line(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "error: argument" in capsys.readouterr().err


def test_errors_reach_the_user_without_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["segments"]) == 1
    assert "params.yaml: no such file" in capsys.readouterr().err
    broken(tmp_path, "study", constraints=["1M"])
    assert main(["teacher", "--seed", "0"]) == 1
    assert "nearest have" in capsys.readouterr().err
    assert main(["check"]) == 1


def test_completion_is_a_script_that_bash_reads(capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "verify-cache" in script
