"""Put the last run's tables and figures into docs/NAME and the README, between its markers."""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORPORA = {"demo": "soundfont", "esc10": "esc10"}


def main() -> None:
    """`python docs/update.py [demo|esc10]`, after `dvc repro` of that experiment."""
    name = sys.argv[1] if len(sys.argv) > 1 else "demo"
    results = (ROOT / "results" / "tables" / "models.csv").read_text(encoding="utf-8")
    if f",{CORPORA[name]}," not in results:
        sys.exit(f"results/tables: not made from the corpus {CORPORA[name]}; run that experiment first")
    folder = ROOT / "docs" / name
    folder.mkdir(exist_ok=True)
    for path in [*(ROOT / "results" / "tables").iterdir(), *(ROOT / "results" / "figures").glob("*.png")]:
        shutil.copy2(path, folder / path.name)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    for table in ("table1", "table2"):
        content = (folder / f"{table}.md").read_text(encoding="utf-8").strip()
        start, end = f"<!-- {name}:{table} -->", f"<!-- /{name}:{table} -->"
        if start not in text:
            sys.exit(f"README.md: no marker {start}; put it back where the table belongs")
        pattern = re.escape(start) + ".*?" + re.escape(end)
        text = re.sub(pattern, lambda _, c=content, s=start, e=end: f"{s}\n{c}\n{e}", text, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
