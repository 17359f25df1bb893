"""Write results of runs and benchmarks into the documentation, between markers.

Usage, in the project's folder:

    python tools/update_docs.py                       # docs/demo, docs/demo.md and the README, from results/
    python tools/update_docs.py dag                   # the graph in docs/dag.md, from `dvc dag`
    python tools/update_docs.py performance           # docs/performance.md, from benchmarks/results
    python tools/update_docs.py esc10 [FOLDER]        # docs/results.md, from a completed study in FOLDER
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import networkx
import pandas as pd

ROOT = Path(__file__).parents[1]
STUDIES = ("soundfont", "esc10", "urbansound8k", "urbansound8k-gpu")  # the profiles in docs/results.md
TABLES = ("ship", "findings", "table1", "table2", "pairs", "windows", "ranking", "classes", "costs")
SHOWN = (
    "Model",
    "Budget",
    "#Params (k)",
    "M multiply-adds",
    "mAP",
    "% teacher",
)  # columns of table 1 in the README
MEASURED = {
    "cpu-2-cores": "",
    "nvidia-h200": "h200:",
}  # files of benchmarks/results, and prefixes of their markers


def put(document: Path, marker: str, content: str) -> None:
    """Replace the text between two markers of a document. Exits with a message if they are missing."""
    text, start, end = document.read_text(encoding="utf-8"), f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if start not in text or end not in text:
        sys.exit(f"{document.name}: no markers {start} and {end}; add them where the table belongs")
    pattern = re.escape(start) + ".*?" + re.escape(end)
    text = re.sub(pattern, lambda _: f"{start}\n{content.strip()}\n{end}", text, flags=re.DOTALL)
    document.write_text(text, encoding="utf-8")


def columns(text: str, chosen: tuple[str, ...]) -> str:
    """Return some columns of the Markdown table in a text. The text may start with a caption."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    table = pd.DataFrame(rows[2:], columns=rows[0])
    return table[list(chosen)].to_markdown(index=False, disable_numparse=True)


def tables(name: str, project: Path, document: str, chosen: tuple[str, ...]) -> None:
    """Copy the tables and figures of a study to docs/`name`, and insert the chosen tables in a document."""
    results, folder = project / "results", ROOT / "docs" / name
    if not (results / "tables" / "table1.md").exists():
        sys.exit(f"{results}: no tables; run the experiment first")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in [*(results / "tables").glob("*.csv"), *(results / "figures").glob("*.png")]:
        shutil.copy2(path, folder / path.name)
    for table in chosen:
        text = (results / "tables" / f"{table}.md").read_text(encoding="utf-8")
        put(ROOT / document, f"{name.split('/')[-1]}:{table}", text)


def hours(name: str, project: Path) -> None:
    """Insert the training times of a study, read from its logs, in docs/results.md."""
    logs, rows = project / "logs" / "seconds", []
    for kind in sorted(logs.iterdir()) if logs.exists() else ():
        known = [
            path for path in kind.iterdir() if (project / "models" / kind.name / f"{path.stem}.pt").exists()
        ]
        minutes = sum(float(path.read_text(encoding="utf-8")) for path in known) / 60
        rows.append({"Training": kind.name, "networks": len(known), "minutes": f"{minutes:.1f}"})
    total = sum(float(row["minutes"]) for row in rows)
    rows.append({"Training": "all", "networks": sum(r["networks"] for r in rows), "minutes": f"{total:.1f}"})
    put(ROOT / "docs" / "results.md", f"{name}:hours", pd.DataFrame(rows).to_markdown(index=False))


def performance(measured: Path, prefix: str = "") -> None:
    """Insert the benchmark results of a machine in docs/performance.md and docs/cluster.md.

    Args:
        measured: JSON file of results.
        prefix: prefix of the marker names.
    """
    document, content = ROOT / "docs" / "performance.md", json.loads(measured.read_text(encoding="utf-8"))
    results, machine = content["results"], content["machine"]
    limits = results[0]["ceilings"]
    gpu = f"{machine['gpu']} ({machine['gpu_memory_gb']:.0f} GB), " if "gpu" in machine else ""
    coarse = f" and {limits['bfloat16'] / 1e12:.0f} TFLOP/s in bfloat16" if "bfloat16" in limits else ""
    put(
        document,
        f"{prefix}machine",
        f"{gpu}{machine['processor']} ({machine['instructions']}), {machine['threads']} threads on "
        f"{machine['cores']} cores, PyTorch {machine['torch']}; at most {limits['flops'] / 1e9:,.0f} GFLOP/s "
        f"in {'TF32' if gpu else 'float32'}{coarse}, and {limits['bandwidth'] / 1e9:,.1f} GB/s to and from "
        "memory, as measured.",
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
    put(document, f"{prefix}summary", pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
    for r in results:
        marker = f"{prefix}{r['name']}"
        for detailed in (document, ROOT / "docs" / "cluster.md"):
            if f"<!-- {marker} -->" in detailed.read_text(encoding="utf-8"):
                table = pd.DataFrame(r["table"]).to_markdown(index=False, disable_numparse=True)
                put(detailed, marker, f"{r['what'][0].upper()}{r['what'][1:]}.\n\n{table}")


def dag(project: Path) -> str:
    """Return the graph of `dvc dag` as Mermaid: one node per stage matrix, without transitive edges."""
    command = [sys.executable, "-m", "dvc", "dag", "--mermaid", "--collapse-foreach-matrix"]
    printed = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout
    names = dict(re.findall(r"(node\d+)\[\"(.*?)\"\]", printed))
    edges = [(names[a], names[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", printed)]
    needed = networkx.transitive_reduction(networkx.DiGraph(edges)).edges
    return "\n".join(["```mermaid", "flowchart LR", *(f"  {a} --> {b}" for a, b in sorted(needed)), "```"])


def main() -> None:
    """See the module."""
    name = sys.argv[1] if len(sys.argv) > 1 else "demo"
    project = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT
    if name == "performance":
        for machine, prefix in MEASURED.items():
            performance(ROOT / "benchmarks" / "results" / f"{machine}.json", prefix)
    elif name == "dag":
        put(ROOT / "docs" / "dag.md", "dag", dag(project))
    elif name == "demo":
        tables("demo", project, "docs/demo.md", ("table1", "table2"))
        table = (project / "results" / "tables" / "table1.md").read_text(encoding="utf-8")
        put(ROOT / "README.md", "demo:summary", columns(table, SHOWN))
    elif name in STUDIES:
        tables(f"results/{name}", project, "docs/results.md", TABLES)
        hours(name, project)
    else:
        sys.exit(f"{name!r}: not one of demo, dag, performance, {', '.join(STUDIES)}")


if __name__ == "__main__":
    main()
