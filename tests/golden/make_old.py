"""Make the folder `old/`: files as this version writes them, which every later version has to open.

    python tests/golden/make_old.py tests/golden/old/0.1

What is in `old/` is never made again: a version that writes another format gets a folder beside. Paths within
are below /proc/self/cwd, the working directory of whoever asks, so that the files open anywhere.
"""

import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from xface_cli.main import main

from xface import XFaceError
from xface.training import read_config, train

HERE = Path(__file__).resolve().parent
HOME = "/proc/self/cwd"
CONFIG = f"""
network: cozzolino
data: {{train: {HOME}/faces/manifest.csv}}
input_size: 32
batch_size: 4
num_epochs: 3
num_workers: 0
device: cpu
augmentations: [flip, colour]
optimizer: {{lr: 0.01}}
schedule: {{type: StepLR, step_size: 2}}
early_stopping: {{patience: 3}}
"""


def make(out: Path) -> None:
    """Write two training runs (one whole, one stopped in its second epoch), a detector and an analysis."""
    shutil.copytree(HERE / "faces", "faces")
    for name in ("fake.jpg", "real.jpg"):
        shutil.copy(HERE.parents[1] / "samples" / name, "faces")
    Path("config.yaml").write_text(CONFIG)
    train(read_config("config.yaml", [f"prefix={HOME}/finished"]))
    with suppress(KeyboardInterrupt, XFaceError):
        train(read_config("config.yaml", [f"prefix={HOME}/stopped"]), tell=stop_at_the_second)
    run("convert", "finished/best.safetensors", "detector.safetensors")
    rows = "fake.jpg,fake\nreal.jpg,real\nfake/0.png,fake\nreal/0.png,real\ngone.png,real\n"
    Path("faces/analysed.csv").write_text("path,label\n" + rows)
    run("analyze", "--device=cpu", "--workers=0", "--method=gradcam", "--method=guided", "--out=analysis",
        f"--data={HOME}/faces/analysed.csv")  # fmt: skip
    forget_the_machine(Path("analysis"))
    out.mkdir(parents=True)
    for name in ("finished", "stopped", "analysis", "detector.safetensors", "detector.json"):
        shutil.move(name, out / name)


def run(*words: str) -> None:
    """Call the command line."""
    sys.argv = ["xface", *words]
    with suppress(SystemExit):
        main()


def stop_at_the_second(line: str) -> None:
    """Do as Ctrl-C when the second epoch's line is printed."""
    if line.startswith("[2/"):
        raise KeyboardInterrupt


def forget_the_machine(run: Path) -> None:
    """Leave out the report, which is drawn from the rest, and where the analysis was made."""
    shutil.rmtree(run / "report")
    (run / ".xface-lock").unlink(missing_ok=True)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "folder": "/faces"}, indent=2))


if __name__ == "__main__":
    target = Path(sys.argv[1]).absolute()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        make(target)
