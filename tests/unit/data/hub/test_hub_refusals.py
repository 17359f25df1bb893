"""What the hub refuses, limits, cuts or lets run out, with its reason or the fix."""

import time
from email.utils import formatdate

import httpx2
import pytest
from hub_server import Fault, HubServer
from huggingface_hub import constants
from mirror import PARQUET, SOUNDS, chunks, clip, groups_read, opened, reason, ytid

from audionas.data.sources.base import SourceError
from audionas.data.sources.hub import Hub
from audionas.runtime.errors import UserError


def test_what_the_user_can_mend_is_said_at_the_start(server, tmp_path, monkeypatch):
    def refused(name=server.name, **options):
        with pytest.raises(UserError) as caught:
            Hub(name, tmp_path, **{"endpoint": server.endpoint} | options)
        return str(caught.value)

    assert refused("lab/Other").startswith(
        "corpus.hub.repository: lab/Other: HTTP 404 (server: RepoNotFound)"
    )
    assert "corpus.hub.revision (v9)" in refused(revision="v9")
    assert "write owner/name" in refused("lab/../../x")
    assert "corpus.hub.endpoint: 'hub.local'" in refused(endpoint="hub.local")
    for status in (401, 403):
        server.fault = lambda asked, status=status: Fault(status) if asked.part == "api" else None
        assert f"HTTP {status}" in refused() and "HF_TOKEN" in refused()
    server.fault = lambda asked: None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refused()


def test_a_gated_repository_wants_a_token_that_storage_never_sees(tmp_path):
    with HubServer(PARQUET, token="hf_secret") as server:  # noqa: S106
        with pytest.raises(UserError, match=r"HTTP 401 \(server: GatedRepo\).*accept its terms.*HF_TOKEN"):
            opened(server, tmp_path)
        hub = opened(server, tmp_path, token="hf_secret")  # noqa: S106
        server.forget()
        assert hub.get(clip(ytid(0))) == SOUNDS[ytid(0)]
        assert {asked.authorized for asked in server.asked if asked.part == "resolve"} == {True}
        assert {asked.authorized for asked in server.asked if asked.part == "storage"} == {False}
        server.token = "hf_other"  # noqa: S105
        server.expire()
        with pytest.raises(UserError, match="HF_TOKEN"):
            hub.get(clip(ytid(30)))


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Headers of all requests that the source makes to an endpoint; nothing is sent."""
    requests = []

    def answer(request):
        requests.append(request)
        body = {
            "id": "lab/AudioSet",
            "sha": "a" * 40,
            "siblings": [{"rfilename": "a.tar", "size": 5, "blobId": "b"}],
        }
        return httpx2.Response(
            200, json=body, headers={"X-Repo-Commit": "a" * 40, "ETag": "b", "Content-Length": "5"}
        )

    client = httpx2.Client(transport=httpx2.MockTransport(answer), follow_redirects=True)
    monkeypatch.setattr("huggingface_hub.utils._http._GLOBAL_CLIENT", client)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
    return requests


@pytest.mark.parametrize(
    ("endpoint", "environment", "sent"),
    [
        (None, None, True),
        ("https://huggingface.co/", None, True),
        ("https://HuggingFace.co:443", None, True),
        ("http://huggingface.co", None, False),
        ("https://huggingface.co.evil.example", None, False),
        ("https://evil.example/https://huggingface.co", None, False),
        ("https://hub.lab.example", None, False),
        ("https://hub.lab.example", "https://hub.lab.example/", True),
        ("https://hub.lab.example:8443", "https://hub.lab.example/", False),
        ("http://hub.lab.example", "http://hub.lab.example", False),
        (None, "http://hub.lab.example", False),
        ("http://127.0.0.1:9", None, False),
        ("http://localhost:9", "http://localhost:9", True),
    ],
)
def test_a_token_goes_to_the_public_hub_and_to_what_the_environment_names(
    asked, tmp_path, monkeypatch, caplog, endpoint, environment, sent
):
    if environment:
        monkeypatch.setenv("HF_ENDPOINT", environment)
        monkeypatch.setattr(constants, "ENDPOINT", environment.rstrip("/"))
    Hub("lab/AudioSet", tmp_path, endpoint=endpoint)
    assert len(asked) == 2 and {"authorization" in request.headers for request in asked} == {sent}
    assert sent != ("HF_ENDPOINT" in caplog.text), "a token that is not sent is not silent"
    assert "hf_secret" not in caplog.text


def test_a_repository_that_wants_the_token_which_is_withheld_says_how_to_allow_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with HubServer(PARQUET, token="hf_secret") as server:  # noqa: S106
        with pytest.raises(
            UserError, match=r"401 .* is not sent to http://127.*set HF_ENDPOINT in the environment"
        ):
            opened(server, tmp_path)
        assert not any(request.authorized for request in server.asked)
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        assert opened(server, tmp_path).get(clip(ytid(0))) == SOUNDS[ytid(0)]


@pytest.mark.parametrize(
    "endpoint", ["https://me:topsecret@hub.example", "ftp://hub.example", "https://", "https://a:b"]
)
def test_an_endpoint_that_is_none_or_holds_a_password_is_refused(tmp_path, endpoint):
    with pytest.raises(UserError, match=r"corpus\.hub\.endpoint") as caught:
        Hub("lab/AudioSet", tmp_path, endpoint=endpoint)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (("Retry-After", "120"), (120, 120)),
        (("Retry-After", "in an hour"), (3000, 3600)),
        (("RateLimit", '"resolvers";r=0;t=55'), (55, 55)),
        (("Retry-After", "soon"), None),
    ],
)
@pytest.mark.parametrize("place", ["api", "resolve", "storage"])
def test_rate_limits_are_told_at_once_with_the_time_to_wait(server, tmp_path, place, header, wait):
    if header[1] == "in an hour":
        header = ("Retry-After", formatdate(time.time() + 3600, usegmt=True))
    server.fault = lambda asked: Fault(429, headers=(header,)) if asked.part == place else None
    with pytest.raises(SourceError) as caught:
        opened(server, tmp_path, files=["data/eval/*"]).get(clip(ytid(20)))
    assert caught.value.reason == "rate-limited"
    if wait is None:
        assert caught.value.retry_after is None
    else:
        assert wait[0] <= caught.value.retry_after <= wait[1]
    assert sum(asked.part == place for asked in server.asked) == 1, "nobody asks again before time"
    server.fault = lambda asked: None
    assert opened(server, tmp_path).get(clip(ytid(20))) == SOUNDS[ytid(20)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(503, headers=(("Retry-After", "100"),)),
        Fault(
            200, body=b"<html>Log in to the hotel's network</html>", headers=(("Content-Type", "text/html"),)
        ),
        Fault(206, body=b"x" * 100, headers=(("Content-Range", "bytes 0-99/100"),)),
        Fault(416),
        Fault(hang=True),
        Fault(cut=0),
        Fault(cut=1000),
        Fault(drip=0.02),
        Fault(shift=512),
    ],
    ids=repr,
)
@pytest.mark.parametrize("layout", ["server", "tars"])
def test_a_network_that_fails_is_network_and_well_when_asked_again(layout, request, tmp_path, fault):
    hub_server = request.getfixturevalue(layout)
    hub = opened(hub_server, tmp_path, timeout=60)
    hub.order([clip(ytid(0))])
    hub_server.fault = lambda asked: fault if asked.part == "storage" else None
    hub._repository.timeout = (
        0.3  # only now, for what hangs: beside other work the server itself may take longer
    )
    assert reason(hub, ytid(22)) == "network"
    hub._repository.timeout = 60
    hub_server.fault = lambda asked: None
    assert hub.get(clip(ytid(22))) == SOUNDS[ytid(22)]


@pytest.mark.parametrize("place", ["api", "resolve"])
@pytest.mark.parametrize("fault", [Fault(500), Fault(hang=True), Fault(200, body=b"<html></html>")], ids=repr)
def test_a_hub_that_does_not_answer_is_network(server, tmp_path, place, fault):
    server.fault = lambda asked: fault if asked.part == place else None
    with pytest.raises(SourceError) as caught:
        opened(server, tmp_path, timeout=0.3).get(clip(ytid(0)))
    assert caught.value.reason == "network"


def test_a_hub_that_is_gone_is_network(tmp_path):
    with HubServer(PARQUET) as server:
        hub = opened(server, tmp_path)
        hub.order([clip(ytid(0))])
    with pytest.raises(SourceError) as caught:
        opened(server, tmp_path, timeout=1.0)
    assert caught.value.reason == "network"


def test_a_connection_cut_once_is_taken_up_where_it_broke(server, tmp_path):
    hub = opened(server, tmp_path)
    hub.order([clip(ytid(0))])
    server.forget()
    path, cuts = "data/eval/00.parquet", []
    start, end = chunks(path)[1]

    def fault(asked):
        if asked.part == "storage" and asked.start == start and not cuts:
            cuts.append(asked)
            return Fault(cut=100_000)
        return None

    server.fault = fault
    assert hub.get(clip(ytid(25))) == SOUNDS[ytid(25)]
    assert cuts and (start + 100_000, end) in server.ranges(path)
    assert groups_read(server, path) == [1, 1]


def test_a_signed_address_that_ran_out_is_asked_for_anew(server, tmp_path):
    hub = opened(server, tmp_path)
    hub.order([clip(ytid(0))])
    for number in (0, 25):
        server.expire()
        assert hub.get(clip(ytid(number))) == SOUNDS[ytid(number)]
    server.forget()
    assert hub.get(clip(ytid(30))) == SOUNDS[ytid(30)]
    assert not [asked for asked in server.asked if asked.part == "resolve"], "an address serves many ranges"
