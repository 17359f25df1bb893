"""The lock has hashes and covers pyproject.toml, and each extra installs what it needs."""

import importlib.util
import re
import sys
from importlib.metadata import distribution
from pathlib import Path

import layers
import numpy as np
import pytest
import soundfile
import torch
from layers import PROJECT, ROOT
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from audionas.models.cnn10 import Cnn10
from audionas.models.files import save_model
from audionas.runtime.extras import EXTRAS
from audionas.settings.audio import Audio, Features
from audionas.systems.once_for_all.commands import STAGES

LOCK = (ROOT / "requirements.lock").read_text()
ENTRIES = re.findall(r"^\w.*(?:\n .*)*", LOCK, re.MULTILINE)
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"}
DEMO = ("pipeline", "report", "deploy")
# Packages that the core must not install, with their extra.
NOT_CORE = {
    "dvc": "pipeline",
    "snakemake": "pipeline",
    "pandas": "pipeline",
    "yt-dlp": "download",
    "huggingface-hub": "download",
    "pyarrow": "download",
    "imageio-ffmpeg": "ffmpeg",
    "matplotlib": "report",
    "plotly": "report",
    "pytest": "dev",
}


def _set_up():
    spec = importlib.util.spec_from_file_location("set_up", ROOT / "tools" / "set_up.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SET_UP = _set_up()


def locked(python: str) -> dict[str, str]:
    """Return versions by name, as pip selects them on Linux with this Python."""
    environment = (
        default_environment() | LINUX | {"python_version": python, "python_full_version": f"{python}.1"}
    )
    requirements = [Requirement(entry.partition("\\")[0]) for entry in ENTRIES]
    wanted = [one for one in requirements if one.marker is None or one.marker.evaluate(environment)]
    versions = {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in wanted}
    assert len(versions) == len(wanted), "a package stands twice"
    return versions


def asked(python: str) -> list[Requirement]:
    """Return the requirements in pyproject.toml: core, extra dev, and build."""
    environment = default_environment() | {"python_version": python}
    every = [*layers.requirements(["dev"]), *map(Requirement, PROJECT["build-system"]["requires"])]
    return [one for one in every if one.marker is None or one.marker.evaluate(environment)]


def selected(*extras: str, gpu: bool = False) -> set[str]:
    """Return the packages that tools/set_up.py installs."""
    return set(SET_UP.select(LOCK, PROJECT, extras, gpu))


def test_every_entry_has_one_version_and_hashes_and_nothing_else():
    assert len(ENTRIES) > 200
    for entry in ENTRIES:
        first, *rest = [line.strip(" \\") for line in entry.splitlines()]
        hashes = [line for line in rest if not line.startswith("#")]
        assert re.fullmatch(r"[\w.-]+==[\w.!+-]+(?: ; .*)?", first), first
        assert hashes, f"{first}: no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first
        assert "# via" in entry, f"{first}: does not say what needs it; run `make lock`"
    assert "://" not in LOCK and "--index" not in LOCK and "--find-links" not in LOCK


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_lock_satisfies_pyproject(python):
    versions = locked(python)
    for one in asked(python):
        version = versions.get(canonicalize_name(one.name))
        assert version and one.specifier.contains(version, prereleases=True), f"{one}: {version}; make lock"


def test_what_the_locked_packages_need_is_locked():
    """Checked with the metadata of installed packages, so that `make install` needs no other file."""
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


def test_everything_is_installed_with_hashes(monkeypatch, tmp_path):
    """This holds for every documented way to install the lock."""
    paths = (ROOT / "Makefile", ROOT / ".ci" / "run", *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
    for path in paths:
        assert "-r requirements.lock" not in path.read_text(), path
        assert "--editable" not in path.read_text(), path
    commands = []
    monkeypatch.setattr(SET_UP, "_run", lambda command, *_: commands.append(command))
    monkeypatch.setattr(SET_UP.sys, "prefix", str(tmp_path))
    SET_UP.install(DEMO, gpu=False)
    first, packages, own = commands
    assert {"--require-hashes", "--no-deps", "--no-build-isolation", "-r"} <= set(first) & set(packages)
    assert {"--no-deps", "--no-build-isolation", "--editable"} <= set(own)
    assert re.match(r"setuptools==\S+ \\\n    --hash=", Path(first[-1]).read_text())
    installed = SET_UP.entries(Path(packages[-1]).read_text())
    assert installed == SET_UP.select(LOCK, PROJECT, DEMO, False)
    assert installed.items() <= SET_UP.entries(LOCK).items()


def test_actions_of_others_are_named_by_their_commit():
    """A tag can be changed to other code, a hash cannot."""
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        uses = re.findall(r"uses: (\S+)", path.read_text())
        assert uses and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", use) for use in uses), uses


@pytest.mark.parametrize("extras", [(), ("report",), DEMO, ("dev",)])
def test_the_packages_that_extras_need_are_selected(extras):
    """Checked with their metadata. Without a GPU, only the packages that a GPU loads are left out."""
    assert len(layers.closure(extras)) > 20
    assert layers.closure(extras) <= selected(*extras, gpu=True)
    assert layers.closure(extras, SET_UP.GPU_ONLY) <= selected(*extras)
    assert not selected(*extras) & SET_UP.GPU_ONLY


def test_a_layer_installs_nothing_of_the_others():
    assert not selected() & NOT_CORE.keys()
    assert not layers.closure() & NOT_CORE.keys()
    for name, extra in NOT_CORE.items():
        assert name in selected(extra), f"{extra} lacks {name}"
    assert not selected(*DEMO) & {"yt-dlp", "pyarrow", "imageio-ffmpeg", "pytest", "ruff", "numba", "boto3"}
    assert selected("dev", "page", gpu=True) == SET_UP.entries(LOCK).keys()


def test_an_extra_that_there_is_not_is_refused():
    with pytest.raises(SystemExit, match="no extra 'reports'; choose from ffmpeg, download"):
        selected("reports")
    with pytest.raises(SystemExit, match=r"requirements.lock: no entry for snakemake-executor-plugin-kuber"):
        selected("kubernetes")


def test_only_what_is_left_out_on_purpose_may_be_missing():
    said = [
        "torch 2.11.0 requires triton, which is not installed.",
        "torch 2.11.0 requires cuda_bindings, which is not installed.",
        "torch 2.11.0 requires sympy, which is not installed.",
        "dvc 3.67.1 has requirement fsspec>=2024.2.0, but you have fsspec 2020.1.0.",
    ]
    assert SET_UP.unmet(said, gpu=False) == said[2:]
    assert SET_UP.unmet(said, gpu=True) == said


def test_pip_that_fails_is_told(capsys):
    talk = "print('Collecting a==1 (from x)'); print('ERROR: no a'); raise SystemExit(3)"
    with pytest.raises(SystemExit, match=r"(?s)ERROR: no a.*pip failed; fix the error above"):
        SET_UP._run([sys.executable, "-c", talk], 1)
    assert not capsys.readouterr().out


def test_progress_off_a_terminal_is_a_few_lines(capsys):
    lines = ["Ignoring pywin32: markers 'x' don't match your environment", "Collecting six==1.17.0 (from x)"]
    lines += ["  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)", "Collecting torch==2.11.0 (from x)"]
    lines += ["  Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl (530.6 MB)"]
    lines += ["Installing collected packages: six, torch", "Successfully installed six-1.17.0 torch-2.11.0"]
    SET_UP._run([sys.executable, "-c", f"print({chr(10).join(lines)!r})"], 3)
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"0:\d\d  \[2/2\] torch==2.11.0 \(530.6 MB\)\n0:\d\d  unpacked 0 of 2 packages\n"
        r"0:\d\d  2 packages are installed\n",
        said,
    )


def test_every_optional_package_names_its_extra():
    """`audionas.runtime.extras` knows what pyproject.toml has in the extras that modules import from."""
    optional, seen = PROJECT["project"]["optional-dependencies"], set()
    for extra, modules in EXTRAS.items():
        names = {Requirement(text).name.replace("-", "_") for text in optional[extra]}
        assert set(modules) <= names, extra
        seen |= names - {"audionas", "ruamel.yaml.clib"}  # DVC imports it, but works without
    assert seen == {module for modules in EXTRAS.values() for module in modules}


USE = """
from pathlib import Path
from audionas.cli import main
from audionas.inference import Classifier
from audionas.runtime.errors import UserError

heard = Classifier("model.pt").predict("a.wav")
assert heard.probabilities.shape == (4,) and heard.seconds == 1.0
assert main(["classify", "model.pt", "a.wav"]) == 0
assert main(["completion", "bash"]) == main(["check"]) == 0
for arguments in (["classify", "model.pt", "a.m4a"], ["space", "2-2-x"], ["report"], ["verify-cache"]):
    assert main(arguments) == 1, arguments
"""


def test_a_model_is_used_with_the_core_alone(tmp_path):
    """With only the core, features that need more report the extra to install."""
    audio, features = Audio(sample_rate=16_000, clip_seconds=1.0), Features(mels=16, fmax=8000.0)
    settings = {"audio": audio.model_dump(), "features": features.model_dump()}
    torch.manual_seed(0)
    classes = ["dog", "cat", "bell", "rain"]
    save_model(tmp_path / "model.pt", Cnn10(4, 4, mels=16), {"settings": settings, "classes": classes})
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    soundfile.write(tmp_path / "a.wav", noise, 16_000)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x1cftypM4A \0\0\2\0M4A isomiso2" + bytes(999))
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "src").symlink_to(ROOT / "src")
    done = layers.run(USE, layers.closure((), SET_UP.GPU_ONLY), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in classes)
    assert "a.m4a: needs ffmpeg (m4a); run pip install 'audionas[ffmpeg]', set AUDIONAS_FFMPEG" in done.stderr
    for command, module in (("space", "pandas"), ("report", "pandas"), ("verify-cache", "dvc")):
        said = (
            f"audionas {command}: the package {module} is not installed; run pip install 'audionas[pipeline]'"
        )
        assert said in done.stderr


def test_the_demo_needs_neither_downloads_nor_development(tmp_path):
    """Every stage can be imported, and clips are rendered, with what `make demo` installs."""
    modules = sorted({f"audionas.systems.{module}" for module in {stage.module for stage in STAGES.values()}})
    code = f"""
from importlib import import_module
for name in {modules!r}:
    import_module(name)
import dvc.cli, dvclive, snakemake
from audionas.data.corpora.registry import open_corpus
from audionas.data.sources.registry import open_sources
from audionas.runtime.errors import UserError
from audionas.settings.corpora import AudiosetCorpus
from audionas.settings.experiment import Experiment
from audionas.systems.registry import load_config
corpus = open_corpus(load_config("params.yaml").corpus, 1.0)
corpus._player
for source in ("hub", "youtube"):
    try:
        open_sources(AudiosetCorpus(name="audioset", sources=[source], lists="lists", audio="audio"))
    except UserError as error:
        print(error)
"""
    done = layers.run(code, layers.closure(DEMO, SET_UP.GPU_ONLY), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert re.search(r"corpus.sources: hub: the package \w+ is not installed; .*\[download\]'", done.stdout)
    assert re.search(r"corpus.sources: youtube: the package \w+ is not installed; .*\[", done.stdout)
