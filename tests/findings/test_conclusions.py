"""What the statistics of `xface analyze` promise: in the simulation's results, and of memory."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import ROOT
from test_findings import MANIFEST, REGIONS, tables

from xface.analysis.pipeline import IMAGE_COLUMNS, REGION_COLUMNS, REPEATED
from xface.findings.findings import NOTE, conclude
from xface.runs.attributes import attributes_of
from xface.runs.tables import REGIONS_SCHEMA
from xface.runs.writing import NewRun
from xface.statistics.effects import ALPHA

COLUMNS = [*IMAGE_COLUMNS, *attributes_of(MANIFEST)]
RESULTS = ROOT / "benchmarks" / "results" / "conclusions.json"
FAMILIES = ("primary contrast", "region table", "attribute table", "regression", "slices")
MOST_FALSE, LEAST_HELD, MOST_HELD = 0.06, 0.93, 0.97


@pytest.fixture(scope="module")
def results():
    return json.loads(RESULTS.read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_often_finds_what_is_not_there(results, family):
    assert results["runs"] >= 500
    assert results["found_without_effect"][family] <= MOST_FALSE


def test_frames_taken_for_independent_fail(results):
    found = results["found_without_effect"]
    assert found["primary contrast, frames taken for independent"] > 4 * ALPHA
    assert found["region table, frames taken for independent"] > 0.9


def test_five_families_find_more_together_than_each_alone(results):
    found = results["found_without_effect"]
    together = found["any of the five"]
    assert max(found[name] for name in FAMILIES) <= together <= 1 - (1 - MOST_FALSE) ** 5
    assert "one run in five" in NOTE
    assert round(1 / together) == 5


@pytest.mark.parametrize("number", ["a normal number", "a long-tailed number"])
def test_a_planted_difference_is_found_and_held(results, number):
    assert results["with_effect"][f"found: {number}"] > 0.9
    assert LEAST_HELD <= results["with_effect"][f"held: {number}"] <= MOST_HELD


def joined(folder: Path, count: int) -> NewRun:
    """A run whose tables are joined, of so many images, a row group for each 100."""
    run = NewRun(folder / f"run{count}")
    run.folder.mkdir()
    images, regions = tables(count)
    shape = dict.fromkeys(set(REGIONS_SCHEMA.names) - set(regions), 0)
    regions = pa.Table.from_pandas(regions.assign(**shape), REGIONS_SCHEMA, preserve_index=False)
    absent = dict.fromkeys(set(COLUMNS) - set(images), 1.0)
    pq.write_table(regions, run.table_path("regions"), row_group_size=100 * len(REGIONS))
    pq.write_table(
        pa.Table.from_pandas(images.assign(**absent)), run.table_path("images"), row_group_size=100
    )
    return run


def test_what_is_read_back_is_what_was_written(tmp_path):
    run, (images, regions) = joined(tmp_path, 300), tables(300)
    read = run.table("images", COLUMNS), run.table("regions", REGION_COLUMNS, REPEATED)
    assert read[1]["region"].dtype == "category"
    assert read[1].astype(regions[list(REGION_COLUMNS)].dtypes).equals(regions[list(REGION_COLUMNS)])
    there = read[0][list(set(COLUMNS) & set(images))]
    assert conclude(there, read[1], MANIFEST).to_json() == conclude(images, regions, MANIFEST).to_json()


PEAK = """
import json, resource, sys
from pathlib import Path
from xface.findings.findings import conclude
from xface.runs.writing import NewRun
from xface.analysis.pipeline import IMAGE_COLUMNS, REGION_COLUMNS, REPEATED
from xface.runs.attributes import attributes_of
run = NewRun(Path(sys.argv[1]))
manifest = json.loads(sys.argv[2])
images = run.table("images", [*IMAGE_COLUMNS, *attributes_of(manifest)])
conclude(images, run.table("regions", REGION_COLUMNS, REPEATED), manifest)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(run: NewRun) -> int:
    """The most memory that a process needs to read a run's tables and conclude from them, in KiB."""
    command = [sys.executable, "-c", PEAK, str(run.target), json.dumps(MANIFEST)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_the_findings_of_9000_images_need_a_tenth_more_memory_than_those_of_500(tmp_path):
    few, many = (peak(joined(tmp_path, count)) for count in (500, 9000))
    assert many <= 1.1 * few
