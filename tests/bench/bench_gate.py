"""What judging results takes beside making them, in CPU seconds.

    python -m tests.bench.bench_gate
    python -m tests.bench.bench_gate --segments 104 --rounds 2

SEG and SR of tests/data's organs, one behind the other, are made and written, then judged as they
lie on the disk. Minima of the rounds: whatever else runs only adds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import process_time

from dicom_node.encode.results import Encoded, SegEncoding, encode
from dicom_node.gate.inspection import Checked, inspect
from dicom_node.model import Result
from tests.bench.bench_encode import segmented
from tests.unit.encode.findings import STAMP

MB = 1e6


def written(encoded: Encoded, folder: Path) -> Checked:
    """Return a result, its file written."""
    file = folder / f"{encoded.kind}.dcm"
    with file.open("wb") as opened:
        opened.writelines(encoded.pieces)
    result = Result(
        sop_instance_uid=encoded.sop_instance_uid,
        sop_class_uid=encoded.sop_class_uid,
        series_instance_uid=encoded.series_instance_uid,
        study_instance_uid=encoded.study_instance_uid,
        transfer_syntax_uid=encoded.transfer_syntax_uid,
        job_id="bench",
        kind=encoded.kind,
        path=file.name,
        size_bytes=file.stat().st_size,
        digest="",
    )
    return Checked(result, file)


def measure(encoding: SegEncoding, slices: int, segments: int, rounds: int) -> str:
    finding, headers = segmented(slices, segments)
    made, judged = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            began = process_time()
            results = [
                written(one, Path(folder)) for one in encode(finding, headers, STAMP, encoding)
            ]
            encoded_at = process_time()
            assert inspect(results, finding, headers) == ()
            made.append(encoded_at - began)
            judged.append(process_time() - encoded_at)
        size = sum(one.result.size_bytes for one in results) / MB
    shown = f"{encoding:12}{slices:7}{segments:9}{size:8.0f}{min(made):9.3f}{min(judged):9.3f}"
    return f"{shown}{min(judged) / min(made):8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="The gate's CPU beside that of encoding.")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{'':12}{'slices':>7}{'segments':>9}{'MB':>8}{'made s':>9}{'judged s':>9}{'share':>8}")
    for encoding in (SegEncoding.BINARY, SegEncoding.LABELMAP):
        print(measure(encoding, given.slices, given.segments, given.rounds), flush=True)


if __name__ == "__main__":
    main()
