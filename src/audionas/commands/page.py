"""`audionas page`: write a page that listens."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    one = commands.add_parser(
        "page",
        help="write an HTML file that runs a model in a browser, offline",
        description="Write one HTML file that listens: to the microphone and to dropped recordings. It shows "
        "probabilities, the spectrogram and time-stamped events, and saves them as CSV or Audacity labels. "
        "The file opens from disk and works offline; audio stays in the browser. It holds the model and "
        "onnxruntime-web, which `make demo` and `make deploy-page` install.",
        epilog="Example: audionas page models/release/26k.pt --output listen.html && xdg-open listen.html",
    )
    one.add_argument("model", metavar="MODEL", help="a model file: .onnx, or .pt, which is exported")
    one.add_argument("--output", required=True, metavar="FILE.html", help="the page")
    one.add_argument("--title", help="heading of the page (default: the name of the model file)")
    one.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="what the network hears at once (default: the length of a training clip)",
    )
    one.add_argument(
        "--hop", type=float, metavar="SECONDS", help="time between windows (default: half a window)"
    )
    one.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the page and print its size.

    Raises:
        UserError: as `deploy.page.write_page`.
    """
    from audionas.deploy.page.build import write_page

    size = write_page(options.model, options.output, options.title, options.window, options.hop)
    address = Path(options.output).resolve().as_uri()
    print(f"{options.output}: {size / 1e6:.1f} MB; open it in a browser: {address}")
