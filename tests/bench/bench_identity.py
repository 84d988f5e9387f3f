"""How long it takes to read the UIDs of an instance, in microseconds, beside pydicom.

    python -m tests.bench.bench_identity

Each figure is the best of several rounds: whatever else the machine does only ever adds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from time import perf_counter

import pydicom
from pydicom.dataset import Dataset

from dicom_node.receive.identity import IdentityReader, peek_identity
from tests.unit.receive.data_sets import (
    BIG_ENDIAN,
    DATA,
    EXPLICIT,
    IMPLICIT,
    Sent,
    encoded,
    part10,
    read_by_pydicom,
    real_data_sets,
)

FIRST_BYTES = 64 * 1024
ROUNDS = 20
ROUND_S = 0.01
ELEMENTS = 75
SERIES_INSTANCE_UID = 0x0020000E
REAL = (
    "ct-chest-lctsc-011/025.dcm",
    "ct-abdomen-totalsegmentator/001.dcm",
    "mr-t1-studyforrest/064.dcm",
    "xray/cr-chest-philips-j2k-RG1.dcm",
    "transfer-syntaxes/CTImage_1.2.840.10008.1.2.dcm",
)


def as_scanners_send(transfer_syntax_uid: str) -> Sent:
    """Return a CT image of GE's with 4 sequences more and fewer private elements: 75 in all."""
    dataset = Dataset(pydicom.dcmread(DATA / "transfer-syntaxes" / f"CTImage_{IMPLICIT}.dcm"))
    for keyword in (
        "ReferencedStudySequence",
        "ReferencedPerformedProcedureStepSequence",
        "ReferencedImageSequence",
        "SourceImageSequence",
    ):
        item = Dataset()
        item.ReferencedSOPClassUID = dataset.SOPClassUID
        item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        setattr(dataset, keyword, [item])
        dataset[keyword].is_undefined_length = True
    private = [e.tag for e in dataset if e.tag.is_private and e.tag < SERIES_INSTANCE_UID]
    for tag in private[: ahead(dataset) - ELEMENTS]:
        del dataset[tag]
    return Sent("CT as sent", encoded(dataset, transfer_syntax_uid), transfer_syntax_uid)


def ahead(dataset: Dataset) -> int:
    """Return how many elements stand before (0020,000E), those of items not counted."""
    return sum(element.tag < SERIES_INSTANCE_UID for element in dataset)


def best_us(call: Callable[[], object]) -> float:
    """Return how long a call takes at best."""
    begun = perf_counter()
    call()
    calls = max(1, int(ROUND_S / (perf_counter() - begun + 1e-6)))
    best = float("inf")
    for _ in range(ROUNDS):
        begun = perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (perf_counter() - begun) / calls)
    return best * 1e6


def _first_of_an_association(first_bytes: memoryview, transfer_syntax_uid: str) -> None:
    IdentityReader().peek(first_bytes, transfer_syntax_uid)


def main() -> None:
    real = {sent.name: sent for sent in real_data_sets()}
    cases = [as_scanners_send(uid) for uid in (EXPLICIT, IMPLICIT, BIG_ENDIAN)]
    print(f"{'elements':>8}  {'walk':>6}  {'again':>6}  {'learn':>6}  {'pydicom':>8}   in us")
    for sent in [*cases, *(real[name] for name in REAL)]:
        uid, file = sent.transfer_syntax_uid, part10(sent.data_set, sent.transfer_syntax_uid)
        first_bytes = memoryview(sent.data_set)[:FIRST_BYTES]
        reader = IdentityReader()
        expected = read_by_pydicom(file)
        assert [reader.peek(first_bytes, uid) for _ in range(2)] == [expected] * 2
        times = [
            best_us(partial(peek_identity, first_bytes, uid)),
            best_us(partial(reader.peek, first_bytes, uid)),
            best_us(partial(_first_of_an_association, first_bytes, uid)),
            best_us(partial(read_by_pydicom, file)),
        ]
        header = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
        columns = "  ".join(
            f"{us:{width}.1f}" for us, width in zip(times, (6, 6, 6, 8), strict=True)
        )
        print(f"{ahead(header):8}  {columns}   {sent.name}, {uid}")


if __name__ == "__main__":
    main()
