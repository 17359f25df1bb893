"""The head of a model card, as huggingface_hub reads and validates it."""

import string

import pytest
import yaml
from hub_uploads import UploadServer, card_errors
from huggingface_hub import ModelCard, constants
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from audionas.reporting.model_card import Metric, combined, front_matter, identifier
from audionas.runtime.text import line

METRICS = [
    Metric("test", "mAP", 64.49, "mAP × 100, over 22 classes, 280 clips [61.2, 67.0]"),
    Metric("validation", "mAP", 62.92, "mAP × 100: validation"),
    Metric("test", "latency", 3, "ms on one thread"),
    Metric("test", "mAP", float("nan"), "int8"),
]


def card(name: str = "CNN10 for at most 26k parameters", **changes) -> str:
    settings = {"tags": ("once-for-all", "cnn10"), "dataset": "ESC-10 (Piczak)", "metrics": METRICS} | changes
    return front_matter(name, **settings) + "# Title\n\nText\n---\nmore\n"


def results(text: str) -> list[tuple]:
    return [
        (one.dataset_split, one.metric_type, one.metric_value, one.metric_name)
        for one in ModelCard(text).data.eval_results
    ]


def test_the_hubs_library_reads_what_was_measured_and_leaves_out_the_rest():
    read = ModelCard(card(license="mit"))
    data = read.data
    assert (data.library_name, data.pipeline_tag, data.license) == ("audionas", "audio-classification", "mit")
    assert data.tags == ["once-for-all", "cnn10"] and data.model_name == "CNN10 for at most 26k parameters"
    assert {(one.dataset_type, one.dataset_name) for one in data.eval_results} == {
        ("esc-10-piczak", "ESC-10 (Piczak)")
    }
    assert results(str(read)) == [tuple(METRICS[0]), tuple(METRICS[2]), tuple(METRICS[1])]
    assert read.text.strip() == "# Title\n\nText\n---\nmore"
    assert not card_errors(card())


def test_a_card_without_a_measured_value_has_no_results():
    text = card(metrics=METRICS[3:])
    assert ModelCard(text).data.eval_results is None and "model-index" not in text


def test_the_hubs_validation_takes_the_card_and_refuses_a_wrong_one(monkeypatch):
    with UploadServer() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        ModelCard(card()).validate()
        with pytest.raises(ValueError, match=r"dataset\.type"):
            ModelCard(card().replace("type: esc-10-piczak", "type: ESC 10")).validate()
        assert hub.parts == ["validate", "validate"]


HARD = ["1e3", "no", "~", "0x1F", "0o17", "1_000", ".inf", "a: b", "- a", "#", "---\n", "'\"", "="]
HARD += ["a\n---\nb: c", "2024-01-01"]
NAMES = st.text(max_size=40) | st.sampled_from(HARD)


@given(NAMES, NAMES, NAMES)
def test_any_name_stays_text_for_readers_of_yaml_1_1_and_1_2(name, dataset, tag):
    text = card(name, dataset=dataset, tags=[tag], metrics=[METRICS[0]._replace(name=name)])
    new = YAML(typ="safe", pure=True).load(text.split("\n---\n")[0] + "\n")  # YAML 1.2, as the hub reads it
    assert new == yaml.safe_load(text.split("\n---\n")[0])
    data = ModelCard(text).data
    assert new["tags"] == [line(tag, 300)] and new["model-index"][0]["name"] == line(name, 300)
    (only,) = data.eval_results
    assert (only.metric_name, only.dataset_name) == (line(name, 300), line(dataset, 300))
    assert set(only.dataset_type) <= {*string.ascii_letters, *string.digits, *"._-/"} and only.dataset_type
    assert identifier(only.dataset_type) == only.dataset_type


def test_a_folder_has_the_results_of_all_cards():
    texts = {"26k": card(), "61k": card(tags=["rendered"], metrics=[METRICS[0]._replace(value=72.0)])}
    whole = combined("lab/sounds", texts, ["audio"]) + "# All\n"
    assert ModelCard(whole).data.tags == ["audio", "once-for-all", "cnn10", "rendered"]
    assert not card_errors(whole)
    expected = [(split, kind, value, f"26k: {name}") for split, kind, value, name in results(texts["26k"])]
    expected += [("test", "mAP", 72.0, f"61k: {METRICS[0].name}")]
    assert results(whole) == expected


@pytest.mark.parametrize(
    "head", ["a: [", "- a", "tags: audio", "model-index:\n- name: a", "model-index: [{results: [1]}]"]
)
def test_a_card_of_another_format_is_named(head):
    with pytest.raises(ValueError, match=r"^61k\.md: its head"):
        combined("lab/sounds", {"61k": f"---\n{head}\n---\n"}, [])


def test_a_card_without_a_head_has_no_results():
    assert "model-index" not in combined("lab/sounds", {"61k": "# Only text\n"}, [])
