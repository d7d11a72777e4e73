"""What xface does on a CUDA device: right maps, and how fast; one command, within a time.

    benchmarks/gpu.sh run OUT [--minutes N] [--only SECTION]...
    python benchmarks/gpu.py --out OUT [--bundle FOLDER] [--minutes N] [--device cpu --smoke]

Without a CUDA device it refuses. `--device cpu --smoke` runs as much of every section as a CPU can, at tiny
sizes, to show that the script works; its file says `not run on CUDA`. FOLDER is what `gpu.sh prepare` made.

Sections run in order of importance, each in a process of its own, so that a failure costs only itself, and
one that outlasts its time is ended. OUT/gpu.json is written after every row, OUT/gpu.log has what they print.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Timer
from typing import Any

import attribution
import click
import gpu_correctness
import gpu_speed
import torch
from gpu_jobs import Job, Row, Setting, line, plain, rows

SECTIONS: dict[str, tuple[float, Callable[[Setting], Iterable[Job]]]] = {  # with its share of the time
    "correctness": (0.25, gpu_correctness.jobs),
    "attribution": (0.30, gpu_speed.attribution_jobs),
    "analysis": (0.25, gpu_speed.analysis_jobs),
    "training": (0.12, gpu_speed.training_jobs),
    "graphs": (0.08, gpu_speed.graph_jobs),
}
GRACE = 10.0  # seconds that a section may take beyond its time, to end its last row
BUNDLE = Path(__file__).resolve().parents[1] / "gpu_bundle"


def section(name: str, setting: Setting) -> None:
    """Run a section in this process; its rows are lines on standard output, all else is on standard error."""
    warnings.simplefilter("ignore")
    found = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if name == "correctness":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for row in rows(SECTIONS[name][1](setting), setting.until):
        print(json.dumps(plain(row)), file=found, flush=True)


def run_section(name: str, given: Row, until: float, log: Any, tell: Callable[[Row], None]) -> str:
    """Run a section in a process of its own, telling each row; returns how it ended."""
    call = [sys.executable, __file__, "--section", name, json.dumps({**given, "until": until})]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    timer = Timer(max(1.0, until + GRACE - time.time()), lambda: os.killpg(process.pid, 9))
    timer.start()
    for text in process.stdout or ():
        tell(json.loads(text))
    code = process.wait()
    late = not timer.is_alive()
    timer.cancel()
    return (
        "done" if code == 0 else "stopped: it outlasted its time" if late else f"failed: it ended with {code}"
    )


def measure(given: Row, names: list[str], seconds: float, out: Path) -> Row:
    """All sections; what one leaves of its time is the next ones'."""
    end, device = time.time() + seconds, given["device"]
    result: Row = {
        "status": "run on CUDA" if device != "cpu" else "not run on CUDA",
        "machine": {**attribution.machine(device), "cores": os.cpu_count(), "cuda": torch.version.cuda},
        "given": {**given, "bundle": Path(given["bundle"]).name, "seconds": seconds},
        "sections": {},
    }
    shares = [SECTIONS[name][0] for name in names]
    with (out / "gpu.log").open("w") as log:
        for place, name in enumerate(names):
            part: Row = {"ended": "running", "rows": []}
            result["sections"][name] = part

            def tell(row: Row, part: Row = part) -> None:
                part["rows"].append(row)
                click.echo(line(row))
                write(result, out)

            click.echo(name)
            start, later = time.time(), sum(shares[place + 1 :]) / sum(shares)
            until = end - GRACE - seconds * later
            part["ended"] = (
                "no time was left" if until <= start else run_section(name, given, until, log, tell)
            )
            part["seconds"] = round(time.time() - start, 1)
            write(result, out)
    return result


def write(result: Row, out: Path) -> None:
    aside = out / "gpu.json.part"
    aside.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(aside, out / "gpu.json")


def table(result: Row) -> str:
    lines = [f"{result['status']}: {result['machine']['device']}, torch {result['machine']['torch']}"]
    for name, part in result["sections"].items():
        lines += [f"{name}: {part['ended']}, {part['seconds']} s", *map(line, part["rows"])]
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), default=BUNDLE, show_default=True)
@click.option("--minutes", default=8.0, show_default=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--smoke", is_flag=True, help="Tiny sizes: only to show that all runs.")
@click.option("--only", multiple=True, type=click.Choice(list(SECTIONS)))
@click.option("--section", "asked", nargs=2, hidden=True)
def main(
    out: Path | None, bundle: Path, minutes: float, device: str, smoke: bool, only: tuple[str, ...],
    asked: tuple[str, str] | None,
) -> None:  # fmt: skip
    """Print the table last."""
    if asked:
        given = json.loads(asked[1])
        section(asked[0], Setting(**{**given, "bundle": Path(given["bundle"])}))
        return
    if out is None:
        raise click.UsageError("give a folder for the results: --out OUT")
    refuse_without_device(device, smoke)
    if not bundle.is_dir():
        raise click.ClickException(f"'{bundle}' is missing; make it with: benchmarks/gpu.sh prepare DATA")
    os.environ["XDG_CACHE_HOME"] = str(bundle.resolve() / "cache")
    out.mkdir(parents=True, exist_ok=True)
    given = {"device": device, "smoke": smoke, "bundle": str(bundle.resolve())}
    names = [name for name in SECTIONS if not only or name in only]
    result = measure(given, names, minutes * 60, out)
    click.echo("\n" + table(result))


def refuse_without_device(device: str, smoke: bool) -> None:
    if device == "cpu" and smoke:
        return
    if not device.startswith("cuda"):
        raise click.UsageError(
            "this measures a CUDA device; on a CPU it only shows that it works: --device cpu --smoke"
        )
    if not torch.cuda.is_available():
        raise click.ClickException(
            "there is no CUDA device here, so nothing was measured; --device cpu --smoke shows that it works"
        )


if __name__ == "__main__":
    main()
