"""How long a study waits, and how often it is acted upon too early: our judge beside fixed timers.

    python -m tests.bench.bench_completeness

Plays the corpus of tests/corpus on a simulated clock; takes some seconds, and no disk or network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain

from dicom_node.verdict import Certainty
from tests.corpus.figures import Watched, best_faultless_timer, mistaken, waits
from tests.corpus.language import Transfer
from tests.corpus.player import Act, play, play_timer
from tests.corpus.scenarios import FAMILIES, beyond, corpus

TIMERS_S = (3.0, 5.0, 60.0, 900.0)
DEFINITIONS = """
A mistake, for all alike: a study was acted upon before the last instance of its set came; `studies`
is how many had one. The wait runs from that instance until all of the set is acted upon; the median
and the 95th percentile over the {whole} sets that come whole. A timer acts when no instance, new or
repeated, came for so long. The judge looks after everything that happens; a node does so once a
second and at a release. Pauses, and how often each occurs, are ours: no hospital was measured."""


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def watch(transfers: list[Transfer], watcher: Callable[[Transfer], list[Act]]) -> Watched:
    return [(transfer, watcher(transfer)) for transfer in transfers]


def row(name: str, watched: Watched) -> str:
    waited = waits(watched)
    early = len(mistaken(watched))
    hit = sum(bool(mistaken([one])) for one in watched)
    middle, slow = percentile(waited, 0.5), percentile(waited, 0.95)
    return f"{name:<28}{early:>9}{hit:>10}{middle:>12.1f}{slow:>10.1f}"


def main() -> None:
    transfers = corpus()
    best_s = best_faultless_timer(transfers)
    judged = watch(transfers, play)
    whole = sum(transfer.whole_at is not None for transfer in transfers)
    print(f"{len(transfers)} transfers of {len(FAMILIES)} families")
    print(DEFINITIONS.format(whole=whole))
    print(f"\n{'':<28}{'mistakes':>9}{'studies':>10}{'median s':>12}{'95 % s':>10}")
    print(row("judge", judged))
    for quiet_s in sorted({*TIMERS_S, best_s}):
        name = f"timer of {quiet_s:g} s" + (" (best faultless)" if quiet_s == best_s else "")
        print(row(name, watch(transfers, partial(play_timer, quiet_s=quiet_s))))

    early = Counter(act.certainty for act in mistaken(judged))
    acted = Counter(act.certainty for t, acts in judged if t.whole_at is not None for act in acts)
    print("\nthe judge's acts on sets that come whole, by verdict, and mistakes among them:")
    for certainty in Certainty:
        print(f"  {certainty:<10}{acted[certainty]:>5}{early[certainty]:>5}")
    never = [acts for t, acts in judged if t.whole_at is None]
    flagged = sum(act.certainty is Certainty.SUSPECT for act in chain(*never))
    print(f"\n{len(never)} sets never come whole: SUSPECT {flagged}; a timer flags none")

    print("\nmistakes and median wait by family:")
    for family in FAMILIES:
        watched = watch(list(family()), play)
        waited = waits(watched)
        middle = f"{percentile(waited, 0.5):8.1f} s" if waited else f"{'-':>10}"
        print(f"  {family.__name__:<20}{len(watched):>5}{len(mistaken(watched)):>5}{middle}")

    print("\nleft out above, since at that time nobody can know (a mistake of whoever acts):")
    for transfer, acts in watch(list(beyond()), play):
        print(f"  {transfer.title}: {acts[0].certainty} at {acts[0].at:g} s, then a new revision")


if __name__ == "__main__":
    main()
