"""Set-up of the environments of export targets."""

import re
import subprocess
import sys

import pytest
import set_up
import set_up_deploy

FILES = sorted(set_up_deploy.FOLDER.glob("requirements-*.txt"))


def test_every_target_has_a_file():
    names = [file.stem.removeprefix("requirements-") for file in FILES]
    assert names == sorted(set_up_deploy.CHECKS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_package_is_pinned_and_hashed_and_none_brings_pytorch(file):
    entries = set_up.entries(file.read_text())
    assert entries and not {"torch", "triton"} & entries.keys()
    assert not [name for name in entries if name.startswith("nvidia")]
    for name, entry in entries.items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name


def package(folder, name, requires=(), files=("__init__.py",)):
    top = name.replace("-", "_")
    for file in files:
        (folder / top).mkdir(parents=True, exist_ok=True)
        (folder / top / file).write_text(f"name = {name!r}\n")
    info = folder / f"{top}-1.0.dist-info"
    info.mkdir()
    lines = [f"Requires-Dist: {one}" for one in requires]
    (info / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines])
    )
    record = [f"{top}/{file},," for file in files] + [f"{top}-1.0.dist-info/METADATA,,", "../../bin/tool,,"]
    (info / "RECORD").write_text("\n".join(record) + "\n")


def test_pytorch_is_linked_with_what_it_requires_and_nothing_else(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    package(source, "torch", ["typing-extensions>=4", "Sym.Py", 'triton; extra == "gpu"', "absent"])
    package(source, "sym-py", ["mp"])
    package(source, "mp")
    package(source, "typing-extensions")
    package(source, "triton")
    package(source, "other")
    package(target, "typing-extensions")  # its own version stays
    assert sorted(set_up_deploy.link("torch", source, target)) == ["mp", "sym-py", "torch"]
    links = {path.name for path in target.iterdir() if path.is_symlink()}
    assert links == {
        "torch",
        "torch-1.0.dist-info",
        "sym_py",
        "sym_py-1.0.dist-info",
        "mp",
        "mp-1.0.dist-info",
    }
    code = "import torch, sym_py, mp; print(torch.name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=target, capture_output=True, text=True)
    assert done.stdout == "torch\n"
    assert set_up_deploy.link("torch", source, target) == []  # again: nothing to do
