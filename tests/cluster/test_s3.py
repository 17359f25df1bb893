"""Sharing through a real S3 service on this machine: OpenStack Swift's."""

from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import projects
import pytest
from projects import run
from remotes import Shared
from s3fs import S3FileSystem
from swift import Swift, missing

pytestmark = pytest.mark.cluster

BUCKET = "lab"


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    if why := missing():
        pytest.skip(why)
    with Swift(Path(tmp_path_factory.mktemp("swift"))) as service:
        options = {"region_name": "us-east-1"}
        S3FileSystem(
            key=service.ACCESS, secret=service.SECRET, endpoint_url=service.url, client_kwargs=options
        ).mkdir(BUCKET)
        yield service


@pytest.fixture
def shared(swift: Swift, tmp_path: Path) -> Shared:
    settings = {"endpointurl": swift.url, "region": "us-east-1"}
    keys = {"access_key_id": swift.ACCESS, "secret_access_key": swift.SECRET}
    return Shared(tmp_path, f"s3://{BUCKET}/{tmp_path.name}", settings, keys)


def test_what_one_clone_pushed_the_other_need_not_compute(shared: Shared) -> None:
    shared.take_over()


def test_who_may_only_read_pulls_and_is_told_so_on_a_push(shared: Shared, swift: Swift) -> None:
    shared.a_computes()
    login = {"X-Auth-User": swift.ACCESS, "X-Auth-Key": swift.SECRET}
    with urlopen(Request(f"{swift.url}/auth/v1.0", headers=login)) as answer:  # noqa: S310
        storage, token = answer.headers["X-Storage-Url"], answer.headers["X-Auth-Token"]
    rights = {"X-Auth-Token": token, "X-Container-Read": f"{swift.GUEST},.rlistings"}
    urlopen(Request(f"{storage}/{BUCKET}", method="POST", headers=rights)).close()  # noqa: S310

    guest = shared.clone("guest")
    for key, value in {"access_key_id": swift.GUEST, "secret_access_key": swift.GUEST_SECRET}.items():
        run(guest, "dvc", "remote", "modify", "--local", "shared", key, value)
    run(guest, "dvc", "pull")
    assert "up to date" in run(guest, "dvc", "repro")
    projects.edit(guest, sign="-")
    run(guest, "dvc", "repro")
    said = run(guest, "dvc", "push", fails=True)
    assert "denied" in said.lower() or "forbidden" in said.lower()
    assert (guest / "join").read_text() == "slow-quick"
    assert "up to date" in run(guest, "dvc", "status")
