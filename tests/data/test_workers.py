"""Workers end with the process for which they read, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

READER = """
import os, time
from torch.utils.data import DataLoader
from xface.data.workers import ending_with_this_process

class Large:
    def __len__(self):
        return 100
    def __getitem__(self, index):
        print(os.getpid(), flush=True)
        return bytes(1000000)

loader = DataLoader(Large(), batch_size=None, num_workers=1, worker_init_fn=ending_with_this_process())
rows = iter(loader)
next(rows)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_a_worker_whose_process_is_killed_ends():
    process = subprocess.Popen([sys.executable, "-c", READER], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    assert not gone(worker)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 30
    while not gone(worker) and time.monotonic() < until:
        time.sleep(0.1)
    ended = gone(worker)
    if not ended:
        os.kill(worker, signal.SIGKILL)
    assert ended
