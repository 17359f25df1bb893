"""Changes to DVC: kills leave no half-written file, the order of stages is fixed, its cache is private.

DVC writes `.dvc/tmp/rwlock` and `dvc.lock` in place. A SIGKILL at that instant leaves an empty or partial
file, and every later `dvc` fails. DVC also keeps a cache for all users in `/var/tmp/dvc`, which everybody may
write to, and unpickles what it finds there. It also hashes whatever lies in a folder, and waits without end
for a pipe. No setting in `.dvc/config` helps in every clone and from every folder. So:

- `dvc.lock`, `dvc.yaml` and the like are written to a temporary name and renamed;
- `.dvc/tmp/rwlock` as well; one that is empty or damaged counts as empty, and so do notes of dead processes;
- a temporary file that a kill left in the run cache is no entry of it;
- the site cache is `.dvc/tmp/site-UID`, with mode 0700, where neither `core.site_cache_dir` nor
  `DVC_SITE_CACHE_DIR` is set;
- a pipe, a socket or a device is refused, and named;
- stages run, and enter `dvc.lock`, in the order of their files, the project's own `dvc.yaml` first. By itself
  DVC reads folders in the order in which the file system lists them, and runs a few of many stages in the
  order of a Python set, which differs from process to process.

`workflow/plan.py` imports this module. `python workflow/safe_dvc.py`, which `make install` runs, copies it
into the Python environment and has Python load it at startup, so that a `dvc` typed by hand is changed too.
To undo that, delete `audionas_safe_dvc.py` and `audionas_safe_dvc.pth` there. The module imports little at
its top, since every start of Python pays for it.
"""

import os
import sys

TESTED = (
    "3.67"  # the minor version of DVC whose internals this module and plan.py rely on; pyproject.toml pins it
)
NAME = "audionas_safe_dvc"  # in site-packages


def supported() -> bool:
    """Whether the installed DVC is the tested one."""
    from importlib.metadata import version

    return version("dvc").split(".")[:2] == TESTED.split(".")


def activate() -> None:
    """Change DVC's modules when they are imported; once a process."""
    if any(getattr(finder, "__name__", "") == _DvcFinder.__name__ for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _DvcFinder)
    for name in _CHANGES.keys() & sys.modules.keys():
        _CHANGES[name](sys.modules[name])


class _DvcFinder:
    """Finds the modules that are changed, as an entry of `sys.meta_path`."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        change = _CHANGES.get(name)
        if change is None or not supported():
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: object) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


class _Replaced:
    """The file to write in place of `path`; renamed to it at the end. DVC's locks allow one writer."""

    def __init__(self, path: object):
        from pathlib import Path

        self.path = Path(path).resolve()
        self.temporary = self.path.with_name(f".{self.path.name}.tmp")

    def __enter__(self) -> object:
        self.file = self.temporary.open("w+", encoding="utf-8")
        return self.file

    def __exit__(self, kind: object, *_: object) -> None:
        import shutil

        with self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
        if kind is not None:
            self.temporary.unlink()
            return
        if self.path.exists():
            shutil.copymode(self.path, self.temporary)
        self.temporary.replace(self.path)


def _write_whole(serialize: object) -> None:
    """`dvc.utils.serialize._common`: what writes YAML, JSON and TOML."""
    dump = serialize._dump_data

    def dump_whole(path: object, data: object, dumper: object, fs: object = None, **options) -> None:
        if fs is not None and fs.protocol != "local":
            dump(path, data, dumper, fs=fs, **options)
            return
        with _Replaced(path) as file:
            dumper(data, file, **options)

    serialize._dump_data = dump_whole


def _trust_the_living(rwlock: object) -> None:
    """`dvc.rwlock`: only what living processes have noted counts; DVC believes any process of that number."""
    edit = rwlock._edit_rwlock

    class Files:
        def __init__(self, fs: object):
            self.fs = fs

        def join(self, *parts: str) -> str:
            return self.fs.join(*parts)

        def open(self, path: str, mode: str = "r", encoding: str = "utf-8") -> object:
            """The file is read and written under a lock, so a damaged one has no writer any more."""
            import io
            import json

            if mode == "w":
                return _Replaced(path)
            with self.fs.open(path, "rb") as file:
                content = file.read()
            try:
                noted = rwlock.SCHEMA(json.loads(content))
            except (ValueError, RecursionError, rwlock.Invalid):
                rwlock.logger.warning("'%s' is damaged, as by a kill of DVC; it is made anew.", path)
                raise FileNotFoundError(path) from None
            readers = {path: [one for one in each if _alive(one)] for path, each in noted["read"].items()}
            writers = {path: one for path, one in noted["write"].items() if _alive(one)}
            return io.StringIO(
                json.dumps({"read": {p: r for p, r in readers.items() if r}, "write": writers})
            )

    rwlock._edit_rwlock = lambda lock_dir, fs, hardlink: edit(lock_dir, Files(fs), hardlink)


def _alive(noted: dict) -> bool:
    """Whether the process is still there, and no other that was given its number since."""
    import psutil

    arguments = noted["cmd"].partition(" ")[2]  # the program is written otherwise where `python -m` began it
    try:
        process = psutil.Process(noted["pid"])
        return process.status() != psutil.STATUS_ZOMBIE and " ".join(process.cmdline()).endswith(arguments)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # of another user
        return True


def _load_finished(cache: object) -> None:
    """`dvc.stage.cache`: DVC takes the newest file of a folder, even a temporary one that a kill left."""

    def load(self, stage: object) -> dict | None:
        from pathlib import Path

        key = cache._get_stage_hash(stage)
        # Another DVC may still be writing a temporary file, so it is passed over and not deleted.
        entries = [path for path in Path(self._get_cache_dir(key)).glob("*") if path.suffix != ".tmp"]
        if not entries:
            return None
        return self._load_cache(key, max(entries, key=lambda path: path.stat().st_mtime).name)

    cache.StageCache._load = load


def _keep_private(config: object) -> None:
    """`dvc.config`: a site cache of one's own."""
    load = config.Config.load

    def load_private(self, *arguments, **options) -> None:
        load(self, *arguments, **options)
        if "site_cache_dir" not in self["core"] and not os.environ.get("DVC_SITE_CACHE_DIR"):
            self["core"]["site_cache_dir"] = _private_folder(self.local_dvc_dir, config.ConfigError)

    config.Config.load = load_private


def _private_folder(dvc_dir: str | None, error: type[Exception]) -> str:
    """Below `.dvc/tmp`, or the user's cache where that cannot be written; made with mode 0700."""
    import stat
    from pathlib import Path

    home = Path.home() / ".cache" / "dvc-site"  # of `dvc get` outside a project
    folder = Path(dvc_dir, "tmp", f"site-{os.getuid()}").absolute() if dvc_dir else home
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(0o700, exist_ok=True)
    except OSError:
        folder = home
        folder.mkdir(0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise error(
            f"{folder}: DVC's site cache is not yours alone, and DVC runs code that it finds there. Delete "
            "this folder; DVC makes it anew"
        )
    return str(folder)


def _hash_files_only(hashing: object) -> None:
    """`dvc_data.hashfile.hash`: a pipe never ends, nor does a link to `/dev/zero`."""
    hash_file = hashing.file_md5

    def hash_regular(path: str, fs: object = hashing.localfs, *arguments, **options) -> str:
        import stat
        from pathlib import Path

        if fs.protocol == "local" and not stat.S_ISREG(Path(path).stat().st_mode):
            from dvc.exceptions import DvcException

            raise DvcException(
                f"{path}: not a regular file but a pipe, a socket or a device; move it out of this folder, "
                "then run again"
            )
        return hash_file(path, fs, *arguments, **options)

    hashing.file_md5 = hash_regular


def _sort_files(index: object) -> None:
    """`dvc.repo.index`: the project's own dvc.yaml first, then those of its folders by name."""
    collect = index.collect_files

    def collect_sorted(repo: object, onerror: object = None) -> list:
        from pathlib import PurePath

        def place(found: tuple) -> tuple:
            path = PurePath(found[0])
            return path.parent.parts, path.name

        return sorted(collect(repo, onerror=onerror), key=place)

    index.collect_files = collect_sorted


def _keep_order(graphs: object) -> None:
    """`dvc.repo.graph`: a part of a graph, whose nodes networkx may list in the order of a set."""
    part_of = graphs.get_subgraph_of_nodes

    def in_order(graph: object, sources: list | None = None, downstream: bool = False) -> object:
        part = graph.copy()
        part.remove_nodes_from(graph.nodes - part_of(graph, sources, downstream).nodes)
        return part

    graphs.get_subgraph_of_nodes = in_order


_CHANGES = {
    "dvc.utils.serialize._common": _write_whole,
    "dvc.rwlock": _trust_the_living,
    "dvc.stage.cache": _load_finished,
    "dvc.config": _keep_private,
    "dvc_data.hashfile.hash": _hash_files_only,
    "dvc.repo.index": _sort_files,
    "dvc.repo.graph": _keep_order,
}


def install() -> None:
    """Have every Python of this environment change the DVC that it imports."""
    import sysconfig
    from pathlib import Path

    site = Path(sysconfig.get_path("purelib"))
    for name, text in (
        (f"{NAME}.py", Path(__file__).read_text(encoding="utf-8")),
        (f"{NAME}.pth", f"import {NAME}; {NAME}.activate()\n"),
    ):
        with _Replaced(site / name) as file:
            file.write(text)


if __name__ == "__main__":
    install()
