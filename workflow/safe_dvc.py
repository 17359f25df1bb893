"""Patches for DVC: atomic writes, a deterministic order of stages, and a private site cache.

DVC writes `.dvc/tmp/rwlock` and `dvc.lock` in place. A SIGKILL during a write leaves an empty or partial
file, and every later `dvc` command fails. DVC also unpickles files from a shared cache in `/var/tmp/dvc`,
which any user can write to. It also hashes pipes in a folder, and blocks forever. No setting in `.dvc/config`
prevents this in every clone and every folder. The patches have these effects:

- `dvc.lock`, `dvc.yaml` and similar files are written under a temporary name and renamed;
- `.dvc/tmp/rwlock` is written likewise; a damaged file, and entries of dead processes, are ignored;
- temporary files in the run cache, left by a kill, are ignored;
- the site cache is `.dvc/tmp/site-UID` with mode 0700, unless `core.site_cache_dir` or `DVC_SITE_CACHE_DIR`
  is set;
- a pipe, a socket or a device is an error that names the path;
- stages run, and are added to `dvc.lock`, in the order of their files, the project's `dvc.yaml` first.
  Without the patch, DVC uses the order of the file system for folders, and the order of a Python set for a
  selection of stages. Both differ between machines or processes.

`workflow/plan.py` imports this module. `make install` runs `python workflow/safe_dvc.py`, which copies the
module into the Python environment. Python then loads it at startup, so that a manual `dvc` is patched too.
To undo this, delete `audionas_safe_dvc.py` and `audionas_safe_dvc.pth` there. The module has few imports at
the top, because they slow down every start of Python.
"""

import os
import sys

TESTED = "3.67"  # minor version of DVC that this module and plan.py support; pyproject.toml pins it
NAME = "audionas_safe_dvc"  # module name in site-packages


def supported() -> bool:
    """Whether the installed DVC is the tested one."""
    from importlib.metadata import version

    return version("dvc").split(".")[:2] == TESTED.split(".")


def activate() -> None:
    """Patch DVC's modules when they are imported. Repeated calls have no effect."""
    if any(getattr(finder, "__name__", "") == _DvcFinder.__name__ for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _DvcFinder)
    for name in _PATCHES.keys() & sys.modules.keys():
        _PATCHES[name](sys.modules[name])


class _DvcFinder:
    """An entry of `sys.meta_path` that finds the modules to patch."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        change = _PATCHES.get(name)
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


class _AtomicFile:
    """A context manager for a temporary file, renamed to `path` at the end. DVC's locks allow one writer."""

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


def _write_atomically(serialize: object) -> None:
    """Patch `dvc.utils.serialize._common`, which writes YAML, JSON and TOML."""
    dump = serialize._dump_data

    def dump_atomically(path: object, data: object, dumper: object, fs: object = None, **options) -> None:
        if fs is not None and fs.protocol != "local":
            dump(path, data, dumper, fs=fs, **options)
            return
        with _AtomicFile(path) as file:
            dumper(data, file, **options)

    serialize._dump_data = dump_atomically


def _ignore_dead_processes(rwlock: object) -> None:
    """Patch `dvc.rwlock` to ignore entries of dead processes; DVC accepts any process with the id."""
    edit = rwlock._edit_rwlock

    class Files:
        def __init__(self, fs: object):
            self.fs = fs

        def join(self, *parts: str) -> str:
            return self.fs.join(*parts)

        def open(self, path: str, mode: str = "r", encoding: str = "utf-8") -> object:
            """Open the file. It is locked during use, so the writer of a damaged file is dead."""
            import io
            import json

            if mode == "w":
                return _AtomicFile(path)
            with self.fs.open(path, "rb") as file:
                content = file.read()
            try:
                noted = rwlock.SCHEMA(json.loads(content))
            except (ValueError, RecursionError, rwlock.Invalid):
                rwlock.logger.warning(
                    "'%s' is damaged, probably by a kill of DVC; creating a new file.", path
                )
                raise FileNotFoundError(path) from None
            readers = {path: [one for one in each if _alive(one)] for path, each in noted["read"].items()}
            writers = {path: one for path, one in noted["write"].items() if _alive(one)}
            return io.StringIO(
                json.dumps({"read": {p: r for p, r in readers.items() if r}, "write": writers})
            )

    rwlock._edit_rwlock = lambda lock_dir, fs, hardlink: edit(lock_dir, Files(fs), hardlink)


def _alive(noted: dict) -> bool:
    """Return whether the process is alive and its id was not reused."""
    import psutil

    arguments = noted["cmd"].partition(" ")[2]  # without the program, whose form differs under `python -m`
    try:
        process = psutil.Process(noted["pid"])
        return process.status() != psutil.STATUS_ZOMBIE and " ".join(process.cmdline()).endswith(arguments)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # the process of another user
        return True


def _skip_temporary_entries(cache: object) -> None:
    """Patch `dvc.stage.cache`, which loads the newest file of a folder, even a temporary one."""

    def load(self, stage: object) -> dict | None:
        from pathlib import Path

        key = cache._get_stage_hash(stage)
        # Temporary files are skipped, not deleted, because another DVC process may be writing them.
        entries = [path for path in Path(self._get_cache_dir(key)).glob("*") if path.suffix != ".tmp"]
        if not entries:
            return None
        return self._load_cache(key, max(entries, key=lambda path: path.stat().st_mtime).name)

    cache.StageCache._load = load


def _use_private_cache(config: object) -> None:
    """Patch `dvc.config` to use a private site cache."""
    load = config.Config.load

    def load_private(self, *arguments, **options) -> None:
        load(self, *arguments, **options)
        if "site_cache_dir" not in self["core"] and not os.environ.get("DVC_SITE_CACHE_DIR"):
            self["core"]["site_cache_dir"] = _private_folder(self.local_dvc_dir, config.ConfigError)

    config.Config.load = load_private


def _private_folder(dvc_dir: str | None, error: type[Exception]) -> str:
    """Create a folder with mode 0700 in `.dvc/tmp`, or in the user's cache if that is not writable."""
    import stat
    from pathlib import Path

    home = Path.home() / ".cache" / "dvc-site"  # used by `dvc get` outside a project
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
            f"{folder}: other users can access DVC's site cache, and DVC executes code from it. Delete "
            "this folder; DVC creates it again"
        )
    return str(folder)


def _hash_regular_files_only(hashing: object) -> None:
    """Patch `dvc_data.hashfile.hash`, which never returns for a pipe or a link to `/dev/zero`."""
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
    """Patch `dvc.repo.index` to sort files: the project's dvc.yaml first, then by folder name."""
    collect = index.collect_files

    def collect_sorted(repo: object, onerror: object = None) -> list:
        from pathlib import PurePath

        def place(found: tuple) -> tuple:
            path = PurePath(found[0])
            return path.parent.parts, path.name

        return sorted(collect(repo, onerror=onerror), key=place)

    index.collect_files = collect_sorted


def _preserve_order(graphs: object) -> None:
    """Patch `dvc.repo.graph` to keep the node order in a subgraph; networkx may use the order of a set."""
    part_of = graphs.get_subgraph_of_nodes

    def in_order(graph: object, sources: list | None = None, downstream: bool = False) -> object:
        part = graph.copy()
        part.remove_nodes_from(graph.nodes - part_of(graph, sources, downstream).nodes)
        return part

    graphs.get_subgraph_of_nodes = in_order


_PATCHES = {
    "dvc.utils.serialize._common": _write_atomically,
    "dvc.rwlock": _ignore_dead_processes,
    "dvc.stage.cache": _skip_temporary_entries,
    "dvc.config": _use_private_cache,
    "dvc_data.hashfile.hash": _hash_regular_files_only,
    "dvc.repo.index": _sort_files,
    "dvc.repo.graph": _preserve_order,
}


def install() -> None:
    """Patch DVC in every Python process of this environment."""
    import sysconfig
    from pathlib import Path

    site = Path(sysconfig.get_path("purelib"))
    for name, text in (
        (f"{NAME}.py", Path(__file__).read_text(encoding="utf-8")),
        (f"{NAME}.pth", f"import {NAME}; {NAME}.activate()\n"),
    ):
        with _AtomicFile(site / name) as file:
            file.write(text)


if __name__ == "__main__":
    install()
