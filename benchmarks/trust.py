"""Which maps of the bundled detectors can be believed: `xface trust` on held-out pictures.

    python benchmarks/trust.py DATA [--weights NAME]... [--set NAME]... [--runs DIR] [--out DIR] [--limit N]

DATA holds a folder with a `manifest.csv` for each set. For each detector and set this runs, or resumes,

    xface trust --weights NAME --data DATA/SET/manifest.csv --split test --out RUNS/NAME-SET

unless that run is finished already, and writes OUT/trust-NAME-SET.json: the run's `trust.json`, judged again
from the run's tables by this version of xface. Folders are named from DATA on, no figure has more than four
digits, and the examples, which are pictures of others, are left out. `python docs/trust_tables.py` makes the
tables of README.md and docs/trust.md of these files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq

from xface.evidence.trust.conclusion import counts, judged
from xface.runs.trust import TRUST, TrustRecord

RESULTS = Path(__file__).resolve().parent / "results"
DETECTORS, SETS = ("resnet18", "meso4"), ("dfdc_pairs", "stylegan_ffhq")
DIGITS = 4


def words(weights: str, table: Path, out: Path | str, *more: str) -> list[str]:
    """The command line of a run."""
    return ["xface", "trust", "--weights", weights, "--data", str(table), "--split", "test", *more,
            "--out", str(out)]  # fmt: skip


def run(weights: str, table: Path, out: Path, *more: str) -> None:
    """Make the run `out`, or what is missing of it."""
    begun = ["--resume"] if out.with_name(f"{out.name}.part").exists() else []
    command = words(weights, table, out, *more, *begun)
    subprocess.run([Path(sys.executable).with_name("xface"), *command[1:]], check=True)


def judged_again(folder: Path) -> dict[str, Any]:
    """The record of a finished run, as its tables and this version of xface have it."""
    cases, figures = (pq.read_table(folder / f"{name}.parquet") for name in ("cases", "figures"))
    content = json.loads((folder / TRUST).read_text(encoding="utf-8"))
    kinds = [(each["method"], each["layer"]) for each in content["maps"]]
    again = content | judged(kinds, cases, figures)
    again["data"] = content["data"] | counts(cases, figures)
    again["data"].pop("images", None)  # as earlier versions counted them
    return TrustRecord.model_validate(again | {"examples": []}).model_dump(mode="json")


def everywhere(content: Any, change: Callable[[Any], Any]) -> Any:
    """A JSON value with each text and number in it changed."""
    if isinstance(content, dict):
        return {key: everywhere(value, change) for key, value in content.items()}
    if isinstance(content, list):
        return [everywhere(value, change) for value in content]
    return change(content)


def public(record: dict[str, Any], data: Path) -> dict[str, Any]:
    """The record without folders of this machine, its numbers to four digits."""
    source = Path(record["data"]["source"])
    record["command"] = words(
        record["command"][record["command"].index("--weights") + 1],
        source.relative_to(data),
        "trust",
    )

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(f"{data}/", "")
        return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value

    found: dict[str, Any] = everywhere(record, plain)
    everywhere(found, _refused_if_absolute)
    return found


def _refused_if_absolute(value: Any) -> None:
    if isinstance(value, str) and (str(Path.home()) in value or Path(value).is_absolute()):
        raise click.ClickException(f"a folder of this machine would be written: {value!r}")


def as_lines(record: dict[str, Any]) -> str:
    """JSON with a line for each figure of each answer, so that changes can be read."""
    lines = []
    for key, value in record.items():
        answers = key in ("maps", "baselines", "effects")
        said = "[\n" + ",\n".join(map(_answer, value)) + "\n ]" if answers else _json(value)
        lines.append(f' "{key}": {said}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _answer(answer: dict[str, Any]) -> str:
    own = ", ".join(f'"{key}": {_json(value)}' for key, value in answer.items() if key != "checks")
    checks = ",\n".join(f'   "{name}": {_json(check)}' for name, check in answer["checks"].items())
    return f'  {{{own}, "checks": {{\n{checks}}}}}'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--weights", multiple=True, default=DETECTORS)
@click.option("--set", "sets", multiple=True, default=SETS)
@click.option("--runs", type=Path, default=Path("results/trust-runs"), show_default=True)
@click.option("--out", type=Path, default=RESULTS, show_default="benchmarks/results")
@click.option("--limit", type=int, help="Use only N forged pictures, to try this out.")
def main(
    data: Path, weights: tuple[str, ...], sets: tuple[str, ...], runs: Path, out: Path, limit: int | None
) -> None:
    """Run what is not finished, and write the records."""
    data = data.absolute()
    for detector, name in ((detector, name) for name in sets for detector in weights):
        folder = runs / f"{detector}-{name}"
        if not (folder / TRUST).exists():
            more = [] if limit is None else ["--limit", str(limit)]
            run(detector, data / name / "manifest.csv", folder, *more)
        record = public(judged_again(folder), data)
        path = out / f"trust-{detector}-{name}.json"
        path.write_text(as_lines(record), encoding="utf-8")
        click.echo(f"{path}: {', '.join(each['grade'] for each in record['maps'])}")


if __name__ == "__main__":
    main()
