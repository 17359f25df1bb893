"""requirements.lock: a hash for every file, no host of a registry, and all that pyproject.toml asks for."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
ENTRIES = re.findall(r"^\w.*(?:\n .*)*", LOCK, re.MULTILINE)
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}


def locked(python: str) -> dict[str, str]:
    """Versions by name, as pip takes them on Linux with this Python."""
    environment = (
        default_environment() | LINUX | {"python_version": python, "python_full_version": f"{python}.1"}
    )
    requirements = [Requirement(entry.partition("\\")[0]) for entry in ENTRIES]
    wanted = [one for one in requirements if one.marker is None or one.marker.evaluate(environment)]
    versions = {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in wanted}
    assert len(versions) == len(wanted), "a package stands twice"
    return versions


def asked(python: str) -> list[Requirement]:
    """What pyproject.toml asks for by itself, with its extra dev, and to be built."""
    extras = PROJECT["project"]["optional-dependencies"]
    names = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"], *extras["dev"]]
    requirements, found = [Requirement(name) for name in names], []
    while requirements:
        one = requirements.pop()
        if one.name == PROJECT["project"]["name"]:
            requirements += [Requirement(name) for extra in one.extras for name in extras[extra]]
        elif one.marker is None or one.marker.evaluate(default_environment() | {"python_version": python}):
            found.append(one)
    return found


def test_every_entry_has_one_version_and_hashes_and_nothing_else():
    assert len(ENTRIES) > 200
    for entry in ENTRIES:
        first, *hashes = [line.strip(" \\") for line in entry.splitlines()]
        assert re.fullmatch(r"[\w.-]+==[\w.!+-]+(?: ; .*)?", first), first
        assert hashes, f"{first}: no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first
    assert "://" not in LOCK and "--index" not in LOCK and "--find-links" not in LOCK


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_lock_satisfies_pyproject(python):
    versions = locked(python)
    for one in asked(python):
        version = versions.get(canonicalize_name(one.name))
        assert version and one.specifier.contains(version, prereleases=True), f"{one}: {version}; make lock"


def test_what_the_locked_packages_need_is_locked():
    """Of this Python, by the metadata of what is installed; so `make install` needs no other file."""
    versions = locked("3.11")
    missing = set()
    for name, version in versions.items():
        try:
            needed = distribution(name).requires or ()
        except ModuleNotFoundError:
            continue
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                one = versions.get(canonicalize_name(requirement.name))
                if not one or not requirement.specifier.contains(one, prereleases=True):
                    missing.add(f"{name} {version} needs {requirement}, not {one}")
    assert not missing


def test_everything_is_installed_with_hashes():
    """Wherever the lock is installed; a conda environment and GitHub's machines too."""
    for path in (ROOT / "Makefile", ROOT / ".ci" / "run", *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for line in path.read_text().splitlines():
            if "-r requirements.lock" in line:
                assert "--require-hashes" in line and "--no-build-isolation" in line, f"{path}: {line}"
    editable = [line for line in (ROOT / "Makefile").read_text().splitlines() if "--editable" in line]
    assert editable and all("--no-deps --no-build-isolation" in line for line in editable)


def test_actions_of_others_are_named_by_their_commit():
    """A tag can be moved to other code."""
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        uses = re.findall(r"uses: (\S+)", path.read_text())
        assert uses and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", use) for use in uses), uses
