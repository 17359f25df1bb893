"""`audionas publish`: send a network with its card, or a folder of them, to the Hugging Face hub."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from audionas.data import paths as data_paths
from audionas.reporting.markup import markdown
from audionas.reporting.model_card import combined
from audionas.runtime.errors import UserError
from audionas.runtime.files import sha256
from audionas.runtime.redaction import redact
from audionas.runtime.text import line

_PUBLIC = "https://huggingface.co"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?!.*(?:--|\.\.|\.git$)){_NAME}/{_NAME}")
_PATH = 4096  # most characters shown of a path
_CARD = "README.md"
_MODELS = (".pt", ".onnx", ".tflite", ".pte")
#: What commands of this package write beside a model: tables, statistics, reports, a page.
_BESIDE = (*_MODELS, ".csv", ".npz", ".json", ".txt", ".html")
#: Lists of classes: ours, and that of sherpa-onnx.
_LABELS = (data_paths.CLASSES.name, "class_labels_indices.csv")
_TABLES = ("files.csv", "files.md")  # of all networks of a release
_TAGS = ("audio-event-classification",)

#: What is sent, by path in the repository: a file, or text that is made here.
Content = dict[str, Path | str]


def add_parser(commands) -> None:
    """Add the command to the parser."""
    one = commands.add_parser(
        "publish",
        help="publish a network with its model card on the Hugging Face hub",
        description="Send a network, the files of the same name beside it (26k.onnx, 26k.int8.onnx, …) and "
        "the list of classes to a model repository. Its card (26k.md) becomes README.md. Of a folder, all "
        "networks and cards are sent; README.md is made if there is none. Other files are never sent. The "
        "repository is created if it does not exist. One commit holds everything. huggingface_hub finds the "
        "token: run `hf auth login`, or set HF_TOKEN.",
        epilog="Example: audionas publish models/release/26k.pt OWNER/kitchen-sounds --private --dry-run",
    )
    one.add_argument("path", metavar="MODEL|FOLDER", help="a model file, or a folder such as models/release")
    one.add_argument("repository", metavar="OWNER/NAME", help="the repository")
    one.add_argument(
        "--private", action="store_true", help="create the repository as private; fail if it is public"
    )
    one.add_argument(
        "--endpoint", metavar="URL", help=f"address of the hub (default: HF_ENDPOINT, or {_PUBLIC})"
    )
    one.add_argument("--dry-run", action="store_true", help="list what would be sent, and send nothing")
    one.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Publish the files, and print their names and the address of the commit.

    Raises:
        UserError: a wrong name or address, no card, a card of another file, no token, no access, or a failed
            transfer.
    """
    endpoint = _endpoint(options.endpoint)
    if not _REPOSITORY.fullmatch(options.repository) or len(options.repository) > 96:
        raise UserError(
            f"{line(options.repository)}: not the name of a repository; write OWNER/NAME with letters, "
            "digits, `-`, `_` and `.`, such as lab/kitchen-sounds"
        )
    path = Path(options.path)
    content, skipped = _of_folder(path, options.repository) if path.is_dir() else _of_model(path)
    where = f"{options.repository} at {endpoint}"
    print(f"{'would send' if options.dry_run else 'sending'} to {where}:")
    for name, what in sorted(content.items()):
        size = len(what.encode()) if isinstance(what, str) else what.stat().st_size
        source = "made here" if isinstance(what, str) else f"from {line(what.name)}"
        print(f"  {size:>12,} bytes  {line(name)}" + f" ({source})" * (source != f"from {line(name)}"))
    for name, why in sorted(skipped.items()):
        print(f"audionas publish: not sent: {line(name)}: {why}", file=sys.stderr)
    sys.stdout.flush()  # before the progress of the transfer
    if not options.dry_run:
        print(_send(content, options.repository, endpoint, options.private, f"Publish {path.resolve().name}"))


def _endpoint(given: str | None) -> str:
    """Return the address of the hub. The token goes there, so it must be encrypted, or this machine."""
    address = (given or os.environ.get("HF_ENDPOINT") or _PUBLIC).rstrip("/")
    where = "--endpoint" if given else "HF_ENDPOINT"
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        valid = valid and not parts.query and not parts.fragment and (parts.port or True)
    except ValueError:
        valid = False
    if not valid:
        raise UserError(
            f"{where}: {line(redact(address))!r} is not an address, or contains a user or a password; write "
            f"an address such as {_PUBLIC}"
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise UserError(
            f"{where}: {line(address)}: not encrypted, so your token could be read on the way; use https"
        )
    return address


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _of_model(path: Path) -> tuple[Content, dict[str, str]]:
    """Return what is sent for one model file, and what is not, with the reason."""
    if path.is_symlink() or not path.is_file():
        problem = "a link; give the file itself" if path.is_symlink() else "no such file or folder"
        raise UserError(f"{line(path, _PATH)}: {problem}; released networks are in models/release")
    files, skipped = _files(path.parent)
    networks = _networks(files)
    stem = next((stem for stem, names in networks.items() if path.name in names), None)
    if stem is None or path.suffix not in _MODELS:
        kinds = ", ".join(_MODELS)
        raise UserError(f"{line(path, _PATH)}: not a model file ({kinds}); give one, or a folder with some")
    card = files.get(f"{stem}.md")
    if card is None:
        why = skipped.get(f"{stem}.md", "no such file")
        raise UserError(
            f"{line(path.with_name(f'{stem}.md'), _PATH)}: {why}; a network is published with its card: "
            "the stage `release` writes it, and for another network you write your own"
        )
    _check_card(card, files.get(f"{stem}.pt"))
    content: Content = {name: files[name] for name in (*networks[stem], *_LABELS) if name in files}
    skipped = {name: why for name, why in skipped.items() if name.startswith(f"{stem}.") or name in _LABELS}
    return {**content, _CARD: card}, skipped


def _of_folder(folder: Path, repository: str) -> tuple[Content, dict[str, str]]:
    """Return what is sent of a folder, and what is not, with the reason."""
    files, skipped = _files(folder)
    networks = _networks(files)
    if not networks:
        why = "".join(f"; {line(name)}: {why}" for name, why in list(skipped.items())[:1])
        raise UserError(
            f"{line(folder, _PATH)}: no model file ({', '.join(_MODELS)}){why}; give a folder such as "
            "models/release"
        )
    known = {*_LABELS, *_TABLES, _CARD}.union(*networks.values(), (f"{stem}.md" for stem in networks))
    content: Content = {name: file for name, file in files.items() if name in known}
    skipped |= {name: "not a file of a release" for name in files.keys() - known}
    for stem in networks:
        if f"{stem}.md" in files:
            _check_card(files[f"{stem}.md"], files.get(f"{stem}.pt"))
        elif _CARD not in files:
            raise UserError(
                f"{line(folder / f'{stem}.md', _PATH)}: no model card of this network; make it with "
                f"`dvc repro release`, or write {_CARD} for the whole folder"
            )
    if _CARD not in files:
        content[_CARD] = _overview(repository, networks, files)
    return content, skipped


def _files(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the regular files of a folder by name, and why others are not sent."""
    files, skipped = {}, {}
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            skipped[path.name] = "a link; replace it by a copy of the file"
        elif path.is_dir():
            skipped[path.name] = "a folder; publish it alone, in a repository of its own"
        elif not path.is_file():
            skipped[path.name] = "not a regular file"
        else:
            files[path.name] = path
    return files, skipped


def _networks(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the files of each network, by its name: of `26k` 26k.pt, 26k.onnx, 26k.int8.onnx, 26k.csv, …

    A name is that of a `.pt` file, of a card, or of a model file that belongs to no other name.
    """
    names = sorted(name for name in names if not name.startswith("."))
    models = [name for name in names if name.endswith(_MODELS)]
    stems = {Path(name).stem for name in models if name.endswith(".pt")}
    cards = {Path(name).stem for name in names if name.endswith(".md")}
    stems |= {card for card in cards if any(name.startswith(f"{card}.") for name in models)}

    def owner(name: str) -> str | None:
        return max((stem for stem in stems if name.startswith(f"{stem}.")), key=len, default=None)

    for name in sorted(models, key=len):
        if owner(name) is None:
            stems.add(Path(name).stem)
    files = [name for name in names if name.endswith(_BESIDE)]
    return {stem: [name for name in files if owner(name) == stem] for stem in sorted(stems)}


def _check_card(card: Path, model: Path | None) -> None:
    """Raise UserError if a card states the SHA-256 of another file than the model."""
    stated = set(re.findall(r"\b[0-9a-f]{64}\b", _text(card)))
    if model is None or not stated:
        return
    digest = sha256(model)
    if digest not in stated:
        raise UserError(
            f"{line(card, _PATH)}: states another SHA-256 than that of {line(model.name)} ({digest[:12]}…); "
            "the model is damaged, or was made again without its card: run `dvc repro release`"
        )


def _text(card: Path) -> str:
    try:
        return card.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{line(card, _PATH)}: not text in UTF-8; write it again") from None


def _overview(repository: str, networks: dict[str, list[str]], files: dict[str, Path]) -> str:
    """Return the README.md of a folder without one: its networks with their files, cards and results."""
    cards = {stem: _text(files[f"{stem}.md"]) for stem in networks}
    try:
        head = combined(repository, cards, _TAGS)
    except ValueError as error:
        raise UserError(f"{line(error)}; fix the head, or write {_CARD}") from None
    rows = []
    for stem, card in cards.items():
        named = re.search(r"^# (.+)$", card, re.MULTILINE)
        title = markdown(named[1]) if named else "card"
        sizes = [f"{markdown(name)} ({files[name].stat().st_size:,} bytes)" for name in networks[stem]]
        rows.append(f"| {markdown(stem)} | [{title}]({quote(stem)}.md) | {'; '.join(sizes)} |")
    table = "\n".join(["| network | model card | files |", "|:--|:--|:--|", *rows])
    lists = " and ".join(name for name in _LABELS if name in files)
    listed = f"\nThe classes are listed in {lists}.\n" if lists else ""
    return (
        f"{head}# {repository.partition('/')[2]}\n\nSound classifiers for several device budgets, made with "
        f"audionas. Each card states what was measured, and the limits.\n\n{table}\n{listed}"
    )


def _send(content: Content, repository: str, endpoint: str, private: bool, message: str) -> str:
    """Send everything in one commit, and return its address."""
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    if not os.environ.get("AUDIONAS_DEBUG"):
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for every request
    # Its own handler would print signed addresses, and every message twice: ours redacts them.
    logging.getLogger("huggingface_hub").handlers.clear()
    with _asking(repository, endpoint) as secrets:
        token = get_token()
        if not token:
            raise UserError(
                f"no token for {endpoint}; run `hf auth login`, or set HF_TOKEN, with a token that may write "
                f"to {repository}"
            )
        secrets.append(token)
        api = HfApi(endpoint=endpoint, token=token, library_name="audionas")
        try:  # a token for one repository may not create others, so look first
            public = api.model_info(repository).private is not True
        except RepositoryNotFoundError:
            api.create_repo(repository, private=private or None)
            public = False
        if private and public:
            raise UserError(
                f"--private: {repository} exists and is public; make it private in its settings, or choose "
                "another name; nothing was sent"
            )
        operations = [
            CommitOperationAdd(name, what.encode() if isinstance(what, str) else what)
            for name, what in sorted(content.items())
        ]
        return api.create_commit(repository, operations, commit_message=message).commit_url


@contextmanager
def _asking(repository: str, endpoint: str) -> Iterator[list[str]]:
    """Convert exceptions of huggingface_hub to UserError. The texts in the yielded list are never shown.

    Errors of the operating system that name a local file pass unchanged.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, OIDCError

    secrets: list[str] = []

    def said(text: object) -> str:
        text = str(text)
        for secret in secrets:
            text = text.replace(secret, "…")
        return line(redact(text))

    def explained(error: BaseException) -> str:
        if isinstance(error, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE forbids to use the hub; unset it, then run again"
        if isinstance(error, OIDCError):
            return f"HF_OIDC_RESOURCE: {said(error)}; unset it, or fix the identity of the CI job"
        if isinstance(error, HfHubHTTPError):
            code, message = error.response.status_code, error.server_message
            answer = f"HTTP {code} ({said(message)})" if message else f"HTTP {code}"
            return f"{repository}: {endpoint} answers {answer}; {_remedy(code, repository)}"
        if isinstance(error, httpx2.HTTPError):
            return (
                f"{endpoint}: cannot be reached ({said(error) or type(error).__name__}); check the address "
                "and the network, then run again: what has arrived is not sent again"
            )
        if str(error).startswith("Invalid metadata in README.md"):
            problem = said(str(error).partition("\n")[2])
            return f"{_CARD}: the hub refuses its head ({problem}); fix the model card"
        if isinstance(error, RuntimeError) and error.__cause__:  # of a thread
            return explained(error.__cause__)
        if isinstance(error, RuntimeError | OSError):  # of hf_xet
            code = re.search(r"HTTP status \w+ error \((\d{3})", str(error))
            fix = _remedy(int(code[1]), repository) if code else "check the network, then run again"
            return f"{repository}: the transfer to {endpoint} failed ({said(error)}); {fix}"
        return f"{endpoint}: does not respond like a hub ({said(repr(error))}); check the address"

    try:
        yield secrets
    except (OSError, httpx2.HTTPError, OIDCError, RuntimeError) as error:
        if getattr(error, "filename", None):  # a local file
            raise
        raise UserError(explained(error)) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(explained(error)) from None


def _remedy(code: int, repository: str) -> str:
    """Return what to do after a response with an error."""
    owner = repository.partition("/")[0]
    if code in (401, 403):
        return f"use a token that may write to {owner}: run `hf auth login` again, or fix HF_TOKEN"
    if code == 404:
        return f"check the name: {owner} is your user name, or an organization that you may write to"
    if code in (409, 412):
        return "somebody else changes the repository; run again"
    if code in (402, 413):
        return f"there is no room: see the plan and the storage of {owner}"
    if code == 429:
        return "too many requests; wait some minutes, then run again"
    if code >= 500:
        return "the hub has a fault; run again later: what has arrived is not sent again"
    return "fix what it names, then run again"
