"""Put what was measured into the documents, between their markers: tables of a run, results of benchmarks."""

import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
CORPORA = {"demo": "soundfont", "esc10": "esc10"}
MEASURED = ROOT / "benchmarks" / "results" / "cpu-2-cores.json"


def put(document: Path, marker: str, content: str) -> None:
    """Replace what stands between a document's markers."""
    text, start, end = document.read_text(encoding="utf-8"), f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if start not in text or end not in text:
        sys.exit(f"{document.name}: no markers {start} and {end}; put them back where the table belongs")
    pattern = re.escape(start) + ".*?" + re.escape(end)
    text = re.sub(pattern, lambda _: f"{start}\n{content.strip()}\n{end}", text, flags=re.DOTALL)
    document.write_text(text, encoding="utf-8")


def tables(name: str) -> None:
    """Tables and figures of the last run of an experiment."""
    results = (ROOT / "results" / "tables" / "models.csv").read_text(encoding="utf-8")
    if f",{CORPORA[name]}," not in results:
        sys.exit(f"results/tables: not made from the corpus {CORPORA[name]}; run that experiment first")
    folder = ROOT / "docs" / name
    folder.mkdir(exist_ok=True)
    for path in [*(ROOT / "results" / "tables").iterdir(), *(ROOT / "results" / "figures").glob("*.png")]:
        shutil.copy2(path, folder / path.name)
    for table in ("table1", "table2"):
        put(ROOT / "README.md", f"{name}:{table}", (folder / f"{table}.md").read_text(encoding="utf-8"))


def performance() -> None:
    """The committed results of the benchmarks in docs/performance.md."""
    document, measured = ROOT / "docs" / "performance.md", json.loads(MEASURED.read_text(encoding="utf-8"))
    results, machine = measured["results"], measured["machine"]
    limits = results[0]["ceilings"]
    put(
        document,
        "machine",
        f"{machine['processor']} ({machine['instructions']}), {machine['threads']} threads on "
        f"{machine['cores']} cores, PyTorch {machine['torch']}; at most {limits['flops'] / 1e9:.0f} GFLOP/s "
        f"in float32 and {limits['bandwidth'] / 1e9:.1f} GB/s to and from memory, as measured.",
    )
    rows = [
        {
            "": f"`{r['name']}`",
            "ours": f"{r['ours']:.4g} {r['unit']}",
            "reference": f"{r['reference']:.4g} {r['unit']}",
            "ratio": f"{r['ratio']:.2f}",
            "ours / floor": f"{r['ours'] / r['floor']:.1f}" if r["floor"] else "",
        }
        for r in results
    ]
    put(document, "summary", pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
    for r in results:
        if f"<!-- {r['name']} -->" in document.read_text(encoding="utf-8"):
            table = pd.DataFrame(r["table"]).to_markdown(index=False, disable_numparse=True)
            put(document, r["name"], f"{r['what'][0].upper()}{r['what'][1:]}.\n\n{table}")


def main() -> None:
    """`python docs/update.py [demo|esc10|performance]`, after that experiment or `python -m benchmarks`."""
    name = sys.argv[1] if len(sys.argv) > 1 else "demo"
    if name == "performance":
        performance()
    elif name in CORPORA:
        tables(name)
    else:
        sys.exit(f"{name!r}: not one of {', '.join(CORPORA)} and performance")


if __name__ == "__main__":
    main()
