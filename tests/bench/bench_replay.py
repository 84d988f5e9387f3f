"""How long does a changed rule set take to be tried on real history?

    python -m tests.bench.bench_replay --headers 100000

Makes a ledger with so many kept headers, of CT, MR and X-ray studies of several scanners, routes
nothing, and has `rules replay` decide every study twice, by 20 rules and by the same with changes.
Prints seconds, headers a second, and the size of what is kept.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dicom_node.history.keeper import HeaderKeeper
from dicom_node.history.keywords import KeepPolicy
from dicom_node.ledger.headers import KeptHeader
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import StudyState
from dicom_node.model import Attributes, Instance, Study
from dicom_node.route.facts import StudyFacts
from dicom_node.route.gather import Gatherer
from dicom_node.route.replay import replay
from dicom_node.route.rules import EngineOrder, ForwardOrder, Level, Rule, RuleSet
from dicom_node.store.local import LocalStore
from tests.unit.ledger import rows
from tests.unit.route.made import when

_SERIES_A_STUDY = 3
_KINDS = (("CT", 60, "CHEST"), ("MR", 30, "BRAIN"), ("CR", 1, "CHEST"))


def rule_set(changed: bool) -> RuleSet:
    """Return 20 rules: on series, on instances and on studies; `changed` moves a few bounds."""
    thick = "<= 0.5" if changed else "<= 5"
    rules = [
        Rule(
            f"run-{number}",
            when({"Modality": modality, "SliceThickness": thick, "instance_count": f">= {number}"}),
            engines=(EngineOrder(f"engine_{number}"),),
            destinations=("archive",),
        )
        for number in range(12)
        for modality in [_KINDS[number % 3][0]]
    ]
    rules += [
        Rule(
            f"forward-{number}",
            when({"SeriesDescription": f"/serie. {number}/", "KVP": "80 .. 140"}),
            forward=ForwardOrder(("research",)),
        )
        for number in range(5)
    ]
    rules += [
        Rule("localizers", when({"ImageType": "LOCALIZER"}), Level.INSTANCE, drop="of no use"),
        Rule("night", when({"time_of_day": "22:00 .. 06:00"}), notify="came at night"),
        Rule("large", when({"instance_count": ">= 150"}), Level.STUDY, notify="a large study"),
    ]
    return RuleSet(tuple(rules))


def fill(ledger: Ledger, headers: int, policy: KeepPolicy) -> int:
    """Keep so many headers; return of how many studies."""
    draw = random.Random(1)
    made, study_number = 0, 0
    while made < headers:
        study_number += 1
        study_uid = f"1.2.{study_number}"
        instances, kept = [], []
        for series_number in range(1, _SERIES_A_STUDY + 1):
            modality, count, part = draw.choice(_KINDS)
            series_uid = f"{study_uid}.{series_number}"
            for number in range(1, count + 1):
                instance = rows.an_instance(
                    number, study_instance_uid=study_uid, series_instance_uid=series_uid
                )
                instances.append(instance)
                kept.append(_header(instance, modality, part, number, series_number, policy))
        ledger.arrivals.record(instances, "0", (study_number, 0))
        ledger.headers.keep(study_uid, kept, policy.keywords)
        made += len(instances)
    return study_number


def _header(
    instance: Instance, modality: str, part: str, number: int, series: int, policy: KeepPolicy
) -> KeptHeader:
    usual = dict.fromkeys(policy.keywords, ("some value",))
    attributes: Attributes = {
        **usual,
        "Modality": (modality,),
        "BodyPartExamined": (part,),
        "ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER" if number == 1 else "AXIAL"),
        "SeriesDescription": (f"series {series}",),
        "SliceThickness": (str(1 + number % 5),),
        "KVP": ("120",),
        "InstanceNumber": (str(number),),
        "SliceLocation": (str(number * 2.5),),
        "ImagePositionPatient": ("-200", "-200", str(number * 2.5)),
        "ImageOrientationPatient": ("1", "0", "0", "0", "1", "0"),
        "AcquisitionTime": (f"1200{number % 60:02}",),
    }
    return KeptHeader(
        instance.series_instance_uid,
        instance.sop_instance_uid,
        instance.digest,
        policy.kept(attributes),
        policy.keywords,
    )


def facts_of(ledger: Ledger, gatherer: Gatherer, keywords: frozenset[str]) -> Iterator[StudyFacts]:
    studies: list[Study] = ledger.studies.in_states([StudyState.RECEIVING])
    for study in studies:
        yield gatherer.study(study, keywords)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--headers", type=int, default=100_000)
    options = parser.parse_args()
    before, now = rule_set(changed=False), rule_set(changed=True)
    keywords = before.keywords | now.keywords
    policy = KeepPolicy(keywords, key=b"of this benchmark")
    with tempfile.TemporaryDirectory(prefix="bench-replay-") as name:
        folder = Path(name)
        ledger = rows.new_ledger(folder)
        started = time.perf_counter()
        empty = (folder / "ledger.sqlite").stat().st_size
        studies = fill(ledger, options.headers, policy)
        filled_s = time.perf_counter() - started
        keeper = HeaderKeeper(ledger, LocalStore(folder / "data"), policy)
        gatherer = Gatherer(ledger, keeper, {})
        started = time.perf_counter()
        found = replay(before, now, facts_of(ledger, gatherer, keywords))
        replayed_s = time.perf_counter() - started
        size = sum(file.stat().st_size for file in folder.glob("ledger.sqlite*")) - empty
        ledger.close()
    print(f"{found.instances} headers of {studies} studies kept in {filled_s:.1f} s")
    print(f"{size / found.instances:.0f} bytes an instance in the ledger, its own row included")
    print(
        f"replayed in {replayed_s:.1f} s: {found.instances / replayed_s:.0f} headers a second; "
        f"something else follows for {len(found.changed)} studies"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
