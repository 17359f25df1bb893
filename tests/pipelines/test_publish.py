"""`audionas publish` against a hub on loopback: what arrives, what is not sent, and what is refused."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_uploads import TOKEN, UploadServer, card_errors
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import _http

from audionas.cli import main
from audionas.reporting.model_card import Metric, front_matter

REPOSITORY = "lab/kitchen-sounds"


def card(name: str, model: bytes | None = None) -> str:
    """Return a model card, which states the SHA-256 of the model."""
    metrics = [Metric("test", "mAP", 64.5, "mAP × 100")]
    head = front_matter(name, tags=["cnn10"], dataset="ESC-10", metrics=metrics)
    stated = hashlib.sha256(model).hexdigest() if model else ""
    return f"{head}# CNN10 for at most {name} | <b>\n\n| SHA-256 | {stated} |\n"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder like models/release. publish does not open models, so any bytes do."""
    folder = tmp_path / "release"
    folder.mkdir()
    for name in ("26k", "1", "1.5M"):
        model = f"weights of {name}".encode() * 20_000
        (folder / f"{name}.pt").write_bytes(model)
        (folder / f"{name}.md").write_text(card(name, model), encoding="utf-8")
    (folder / "26k.int8.onnx").write_bytes(os.urandom(5_000))
    (folder / "26k.html").write_bytes(b"<html>")
    (folder / "classes.csv").write_bytes(b"index,mid,display_name\n0,/m/1,\xc3\x84\n")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    with UploadServer() as server:
        yield server


@pytest.fixture
def publish(hub: UploadServer, capfd: pytest.CaptureFixture):
    """Run the command with the hub as endpoint; return its exit code and what it printed."""

    def run(path: Path, *options: str, repository: str = REPOSITORY) -> tuple[int, str]:
        code = main(["publish", str(path), repository, "--endpoint", hub.endpoint, *options])
        said = "".join(capfd.readouterr())
        assert TOKEN not in said and "signature" not in said
        return code, said

    return run


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


OF_26K = ("26k.pt", "26k.int8.onnx", "26k.html", "classes.csv")


@pytest.mark.parametrize("model", ["26k.pt", "26k.int8.onnx"])
def test_a_network_arrives_with_its_files_and_its_card(model, release, hub, publish):
    code, said = publish(release / model)
    assert code == 0 and f"{hub.endpoint}/{REPOSITORY}/commit/" in said
    sent = hub.repositories[REPOSITORY]
    del sent[".gitattributes"]
    assert sent == contents(release, *OF_26K) | {"README.md": (release / "26k.md").read_bytes()}
    assert not hub.leaked and "storage" in hub.parts and hub.private == set()


def test_a_network_whose_name_starts_like_anothers_is_another(release, hub, publish):
    assert publish(release / "1.pt")[0] == 0
    assert {"1.pt", "classes.csv", "README.md"} == hub.repositories[REPOSITORY].keys() - {".gitattributes"}


def test_a_folder_arrives_with_an_overview_of_its_networks(release, hub, publish):
    (release / "notes.md").write_text("not yet")
    (release / ".env").write_text("PASSWORD=x")
    (release / "passwords.txt").write_text("x")
    (release / "26k-sherpa").mkdir()
    (release / "26k.onnx").symlink_to("/etc/hostname")
    code, said = publish(release)
    assert code == 0
    sent = hub.repositories[REPOSITORY]
    names = [f"{name}.{kind}" for name in ("26k", "1", "1.5M") for kind in ("pt", "md")]
    expected = contents(release, *names, *OF_26K)
    assert {name: sent[name] for name in expected} == expected
    assert sent.keys() - expected.keys() == {"README.md", ".gitattributes"}
    for name, why in (
        ("notes.md", "not a file of a release"),
        (".env", "not a file of a release"),
        ("passwords.txt", "not a file of a release"),
        ("26k-sherpa", "a folder"),
        ("26k.onnx", "a link"),
    ):
        assert f"audionas publish: not sent: {name}: {why}" in said
    overview = sent["README.md"].decode()
    assert not card_errors(overview)
    assert {one.metric_name for one in ModelCard(overview).data.eval_results} == {
        f"{name}: mAP × 100" for name in ("26k", "1", "1.5M")
    }
    assert (
        r"| 26k | [CNN10 for at most 26k \| \<b\>](26k.md) | 26k.html (6 bytes); 26k.int8.onnx (" in overview
    )
    assert "listed in classes.csv" in overview


def test_a_folders_own_overview_is_kept(release, hub, publish):
    (release / "README.md").write_text(card("all"), encoding="utf-8")
    (release / "26k.md").unlink()
    assert publish(release)[0] == 0
    assert hub.repositories[REPOSITORY]["README.md"] == (release / "README.md").read_bytes()


def test_a_dry_run_lists_the_same_and_asks_nobody(release, hub, publish, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    code, planned = publish(release / "26k.pt", "--dry-run")
    assert code == 0 and planned.startswith(f"would send to {REPOSITORY} at {hub.endpoint}:")
    assert (
        f"{(release / '26k.pt').stat().st_size:,} bytes  26k.pt" in planned
        and "README.md (from 26k.md)" in planned
    )
    assert not hub.parts and not hub.repositories
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    _, said = publish(release / "26k.pt")
    assert planned.splitlines()[1:] == [row for row in said.splitlines() if " bytes  " in row]


def test_a_second_run_sends_only_what_changed(release, hub, publish):
    publish(release / "26k.pt")
    hub.parts.clear()
    assert publish(release / "26k.pt")[0] == 0
    assert "storage" not in hub.parts and "commit" not in hub.parts
    (release / "26k.int8.onnx").write_bytes(b"new")
    hub.parts.clear()
    assert publish(release / "26k.pt")[0] == 0
    assert hub.parts.count("storage") == 1
    assert hub.repositories[REPOSITORY]["26k.int8.onnx"] == b"new"


def test_private_is_private_and_never_a_public_repository_that_exists(release, hub, publish):
    assert publish(release / "26k.pt", "--private")[0] == 0
    assert hub.private == {REPOSITORY}
    assert publish(release / "26k.pt", "--private")[0] == 0
    hub.private.clear()
    hub.repositories[REPOSITORY].clear()
    code, said = publish(release / "26k.pt", "--private")
    assert code == 1 and f"--private: {REPOSITORY} exists and is public; make it private" in said
    assert not hub.repositories[REPOSITORY]


@pytest.mark.parametrize(
    "part, status, fix",
    [
        ("info", 500, "run again later"),
        ("create", 401, "use a token that may write to lab: run `hf auth login`"),
        ("create", 403, "use a token that may write to lab"),
        ("preupload", 404, "check the name"),
        ("preupload", 500, "run again later"),
        ("batch", 401, "use a token"),
        ("storage", 500, "run again later: what has arrived is not sent again"),
        ("storage", 403, "use a token"),
        ("commit", 409, "run again"),
        ("commit", 412, "run again"),
        ("commit", 429, "wait some minutes"),
        ("commit", 500, "run again later"),
        ("commit", 422, "fix what it names"),
    ],
)
def test_a_refusal_says_what_to_do_and_commits_nothing(part, status, fix, release, hub, publish):
    hub.fault = lambda asked: status if asked == part else None
    code, said = publish(release / "26k.pt")
    assert code == 1
    assert f"audionas publish: {REPOSITORY}: {hub.endpoint} answers HTTP {status}" in said and fix in said
    assert not hub.repositories.get(REPOSITORY, {}).keys() - {".gitattributes"}
    hub.fault = lambda asked: None
    assert publish(release / "26k.pt")[0] == 0


def test_retries_are_said_once_and_without_the_signature_of_an_address(release, hub, tmp_path):
    left = iter([503])
    hub.fault = lambda asked: next(left, None) if asked == "storage" else None
    command = [sys.executable, "-m", "audionas", "publish", str(release / "1.pt"), REPOSITORY]
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
    environment.pop("AUDIONAS_DEBUG", None)
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and ran.stdout.splitlines()[-1].startswith(
        f"{hub.endpoint}/{REPOSITORY}/commit"
    )
    assert ran.stderr.count("HTTP Error 503") == 1 and "?…" in ran.stderr and "signature" not in ran.stderr
    assert "HTTP Request" not in ran.stderr
    assert hub.repositories[REPOSITORY]["1.pt"] == (release / "1.pt").read_bytes()


def test_a_token_for_one_repository_need_not_be_one_that_creates_others(release, hub, publish):
    hub.repositories[REPOSITORY] = {}
    hub.fault = lambda asked: 403 if asked == "create" else None
    assert publish(release / "26k.pt")[0] == 0


def test_a_wrong_or_missing_token_says_how_to_get_one(release, hub, publish, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    code, said = publish(release / "26k.pt")
    assert code == 1 and "HTTP 401 (refused Bearer …)" in said and "hf_other" not in said
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    code, said = publish(release / "26k.pt")
    assert code == 1 and f"no token for {hub.endpoint}; run `hf auth login`, or set HF_TOKEN" in said
    (tmp_path / "none").write_text(TOKEN)  # as `hf auth login` does
    assert publish(release / "26k.pt")[0] == 0


def test_an_identity_of_a_ci_job_that_is_not_there_is_named(release, hub, publish, monkeypatch):
    monkeypatch.setenv("HF_OIDC_RESOURCE", REPOSITORY)
    monkeypatch.setattr(constants, "HF_OIDC_RESOURCE", REPOSITORY, raising=False)
    code, said = publish(release / "26k.pt")
    assert code == 1 and "audionas publish: HF_OIDC_RESOURCE: " in said and not hub.parts


def test_a_fault_of_the_fast_transfer_is_a_message_too(release, hub, publish, monkeypatch):
    """hf_xet, which huggingface_hub uses where the hub has it, raises errors of its own."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.fault = lambda asked: 403 if asked == "xet" else None
    code, said = publish(release / "26k.pt")
    assert code == 1 and f"audionas publish: {REPOSITORY}: the transfer to {hub.endpoint} failed" in said
    assert "use a token that may write to lab" in said
    assert "xet" in hub.parts and "commit" not in hub.parts


def test_a_card_that_the_hub_refuses_is_named_before_anything_is_sent(release, hub, publish):
    path = release / "26k.md"
    path.write_text(path.read_text().replace("type: ESC-10", "type: E S C"))
    code, said = publish(release / "26k.pt")
    assert code == 1 and "README.md: the hub refuses its head" in said and "dataset.type" in said
    assert "storage" not in hub.parts and "commit" not in hub.parts


def test_an_address_that_is_no_hub_or_not_there_says_so(release, hub, publish, monkeypatch):
    hub.fault = lambda asked: 200 if asked == "info" else None  # some other JSON
    code, said = publish(release / "26k.pt")
    assert code == 1 and f"{hub.endpoint}: does not respond like a hub" in said
    code, said = publish(release / "26k.pt", "--endpoint", "http://127.0.0.1:9")
    assert code == 1 and "http://127.0.0.1:9: cannot be reached" in said and "check the address" in said
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, said = publish(release / "26k.pt")
    assert code == 1 and "HF_HUB_OFFLINE" in said


@pytest.mark.parametrize(
    "address, problem",
    [
        ("hub.local", "is not an address"),
        ("https://user:secret@hub.local", "contains a user or a password"),
        ("https://hub.local:x", "is not an address"),
        ("https://hub.local/?token=secret", "is not an address"),
        ("http://hub.local", "not encrypted"),
        ("http://127.0.0.1.example.org", "not encrypted"),
    ],
)
def test_a_token_goes_to_no_other_address(address, problem, release, publish):
    code, said = publish(release / "26k.pt", "--endpoint", address, "--dry-run")
    assert code == 1 and problem in said and "secret" not in said


@pytest.mark.parametrize(
    "name",
    ["sounds", "lab/", "lab/a/b", "lab/../x", "lab/a--b", "lab/-a", "lab/a.git", "läb/a", "lab/" + "a" * 96],
)
def test_a_repository_is_owner_and_name(name, release, publish):
    code, said = publish(release / "26k.pt", "--dry-run", repository=name)
    assert code == 1 and "write OWNER/NAME" in said


def test_what_cannot_be_published_says_what_to_do(release, hub, publish, tmp_path):
    def refused(path: Path) -> str:
        code, said = publish(path)
        assert code == 1 and not hub.parts
        return said

    assert "nothing.pt: no such file or folder; released networks" in refused(release / "nothing.pt")
    assert "classes.csv: not a model file (.pt, .onnx" in refused(release / "classes.csv")
    (release / "link.pt").symlink_to("26k.pt")
    assert "link.pt: a link; give the file itself" in refused(release / "link.pt")
    (release / "26k.pt").write_bytes(b"half")
    assert "26k.md: states another SHA-256 than that of 26k.pt" in refused(release / "26k.pt")
    assert "26k.md: states another SHA-256" in refused(release)
    (release / "26k.md").write_bytes(b"\xff\xfe")
    assert "26k.md: not text in UTF-8" in refused(release / "26k.pt")
    (release / "26k.md").write_text("---\n- a\n---\n")
    assert "26k.md: its head is not of the hub's format" in refused(release)
    (release / "26k.md").unlink()
    assert "26k.md: no such file; a network is published with its card" in refused(release / "26k.pt")
    assert "26k.md: no model card of this network" in refused(release)
    (tmp_path / "empty").mkdir()
    assert "empty: no model file" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "link.pt").symlink_to(release / "26k.pt")
    assert "no model file (.pt, .onnx, .tflite, .pte); link.pt: a link" in refused(tmp_path / "empty")


def test_without_huggingface_hub_the_extra_is_named_and_a_dry_run_works(release, tmp_path):
    code = (
        "import sys; sys.modules['huggingface_hub'] = None; from audionas.cli import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "publish", str(release / "26k.pt"), REPOSITORY]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1 and "pip install 'audionas[download]'" in ran.stderr
    ran = subprocess.run([*command, "--dry-run"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and "26k.pt" in ran.stdout
