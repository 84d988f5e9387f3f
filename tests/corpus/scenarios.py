"""More than two hundred transfers, written in the language, by family.

Families vary what they are about: sizes, pauses, scanners and the moment at which it happens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import product

from tests.corpus.language import Transfer

PAST = {
    "FAST": "0 " * 20,
    "SPLITTER": "8 0 12 9 0 11 7 14 10 6 9 0 13 8 12 10 9 7 11 9",
    "SLOW": "40 35 52 38 44 61 33 47 55 39 41 50 36 45 58 42 37 49 53 46",
    "NEW": "0 4 1",
}
"""What was learned of each scanner; of the last, not enough."""
Family = Callable[[], Iterator[Transfer]]


def clean() -> Iterator[Transfer]:
    """One association, released at once; evidence of each kind, or none."""
    evidence = {
        "nothing": "",
        "MPPS before": "0 MPPS p of {ae} begins\n1 MPPS p completes naming a",
        "MPPS after": "0 MPPS p of {ae} begins\n{after} MPPS p completes naming a",
        "C-FIND": "{after} {ae} is asked\n{answered} {ae} answers a {n}",
        "C-FIND fails": "{after} {ae} is asked\n{answered} {ae} does not answer",
        "C-FIND hangs": "{after} {ae} is asked",
        "IAN after": "{after} IAN of {ae} names a",
        "IAN before": "0 IAN of {ae} names a",
        "headers": "headers of a count {n} in study",
        "headers count on": "headers of a count on in study",
        "acquisition": "headers of a count {n} in acquisition",
    }
    for (title, lines), ae, n in product(evidence.items(), ("FAST", "SPLITTER", "NEW"), (40, 120)):
        end = n * 0.05
        told = lines.format(ae=ae, n=n, after=end + 0.2, answered=end + 0.5)
        yield Transfer(
            f"clean, {title}, {n} of {ae}",
            f"""
            series a: {n} CT
            past of {ae}: {PAST[ae]}
            0 {ae} opens x
            0 x carries a every 0.05
            {end} x releases
            {told}
            """,
        )


def split() -> Iterator[Transfer]:
    """One study in several associations, with pauses between them."""
    told = {
        "": "",
        ", MPPS": "0 MPPS p of {ae} begins\n{end} MPPS p completes naming a",
        ", C-FIND": "{end} {ae} is asked\n{answered} {ae} answers a 60",
        ", headers": "headers of a count 60 in series",
    }
    pauses = {"SPLITTER": (3, 9, 12), "SLOW": (20, 45, 60), "NEW": (2, 4, 30)}
    for ae, (title, lines) in product(pauses, told.items()):
        for pause in pauses[ae]:
            second, third = 2 + pause, 4 + 2 * pause
            evidence = lines.format(ae=ae, end=third + 2.1, answered=third + 2.4)
            yield Transfer(
                f"three associations {pause} s apart{title}, {ae}",
                f"""
                series a: 60 CT
                past of {ae}: {PAST[ae]}
                0 {ae} opens x
                0 x carries a 1-20 every 0.1
                2 x releases
                {second} {ae} opens y
                {second} y carries a 21-40 every 0.1
                {second + 2} y releases
                {third} {ae} opens z
                {third} z carries a 41-60 every 0.1
                {third + 2} z releases
                {evidence}
                """,
            )


def slow() -> Iterator[Transfer]:
    """A scanner that sends while it scans, on one association."""
    for every, n, ends in product((2, 10, 25), (12, 30), ("releases", "stays open", "is cut")):
        end = n * every
        ending = {"releases": f"{end} x releases", "is cut": f"{end - every + 60} x aborts"}
        yield Transfer(
            f"one every {every} s, {n}, {ends}",
            f"""
            series a: {n} CT
            past of SLOW: {PAST["SLOW"]}
            0 SLOW opens x
            0 x carries a every {every}
            {ending.get(ends, "")}
            """,
        )


def broken() -> Iterator[Transfer]:
    """An association breaks, and somebody sends again, or nobody does."""
    for end, at, pause in product(("aborts", "is lost"), (13, 39), (1, 30, 300)):
        again = at * 0.1 + pause
        for title, ae, names in (
            ("all again", "FAST", "a"),
            ("the rest", "FAST", f"a {at + 1}-40"),
            ("all by another", "PACS", "a"),
        ):
            yield Transfer(
                f"{end} after {at} of 40, {title} {pause} s later",
                f"""
                series a: 40 CT
                past of FAST: {PAST["FAST"]}
                0 FAST opens x
                0 x carries a 1-{at} every 0.1
                {at * 0.1} x {end}
                {again} {ae} opens y
                {again} y carries {names} every 0.1
                {again + 4.5} y releases
                """,
            )
    for end in ("aborts", "is lost"):
        yield Transfer(
            f"{end} after the last, proven by MPPS",
            f"""
            series a: 40 CT
            0 MPPS p of FAST begins
            0 FAST opens x
            0 x carries a every 0.1
            4 x {end}
            6 MPPS p completes naming a
            """,
        )
        yield Transfer(
            f"{end}, then a key object by a workstation, then the rest",
            f"""
            series a: 40 CT
            series k: 1 KO
            past of FAST: {PAST["FAST"]}
            0 FAST opens x
            0 x carries a 1-20 every 0.1
            2 x {end}
            10 WORK opens y
            10 y carries k every 0.1
            11 y releases
            90 FAST opens z
            90 z carries a 21-40 every 0.1
            92 z releases
            """,
        )
        yield Transfer(
            f"{end}, the next series first, then the rest",
            f"""
            series a: 40 CT
            series b: 20 CT
            past of FAST: {PAST["FAST"]}
            0 FAST opens x
            0 x carries a 1-20 every 0.1
            2 x {end}
            3 FAST opens y
            3 y carries b every 0.1
            5 y releases
            70 FAST opens z
            70 z carries a 21-40 every 0.1
            72 z releases
            """,
        )


def refused() -> Iterator[Transfer]:
    """An instance is refused, and comes later."""
    for later in (3, 40, 200):
        yield Transfer(
            f"one is refused and comes {later} s later",
            f"""
            series a: 40 CT
            past of FAST: {PAST["FAST"]}
            0 FAST opens x
            0 x carries a 1-39 every 0.1
            3.95 x refuses a 40
            4 x releases
            {4 + later} FAST opens y
            {4 + later} y carries a 40 every 0.1
            {4.2 + later} y releases
            """,
        )


def interleaved() -> Iterator[Transfer]:
    """The association goes on with another study, or brings this one between others."""
    for share, busy in product((10, 30), (5, 40, 90)):
        second = share * 0.1 + busy
        yield Transfer(
            f"{share} of 40, another study for {busy} s, the rest",
            f"""
            series a: 40 CT
            past of FAST: {PAST["FAST"]}
            0 FAST opens x
            0 x carries a 1-{share} every 0.1
            {second} x carries a {share + 1}-40 every 0.1
            {second + 5} x releases
            """,
        )


def late_series() -> Iterator[Transfer]:
    """A second series long after the first, whatever is told of it."""
    told = {
        "MPPS in progress": "0 MPPS p of {ae} begins\n{end} MPPS p completes naming a, b",
        "two steps at once": """
            0 MPPS p of {ae} begins
            1 MPPS q of {ae} begins
            5 MPPS p completes naming a
            {end} MPPS q completes naming b""",
        "the sender has more": """
            3 {ae} is asked
            3.5 {ae} answers a 30, b 30""",
        "headers count it": "headers of a count 60 in study\nheaders of b count 60 in study",
        "an earlier IAN names it": "0 IAN of {ae} names a, b",
        "nothing": "",
    }
    for (title, lines), ae, pause in product(told.items(), ("FAST", "SLOW"), (20, 50, 180, 400)):
        if ae == "FAST" and title == "nothing" and pause > 180:
            continue
        evidence = lines.format(ae=ae, end=7 + pause)
        yield Transfer(
            f"a series {pause} s later, {title}, {ae}",
            f"""
            series a: 30 CT
            series b: 30 CT
            past of {ae}: {PAST[ae]}
            0 {ae} opens x
            0 x carries a every 0.1
            3 x releases
            {3 + pause} {ae} opens y
            {3 + pause} y carries b every 0.1
            {6 + pause} y releases
            {evidence}
            """,
        )


def out_of_order() -> Iterator[Transfer]:
    """Any order, any repeats, and two routes at once."""
    shuffled = list(range(1, 41))
    random.Random(4).shuffle(shuffled)
    orders = {
        "backwards": "a 40-1",
        "odd ones first": "a " + " ".join(str(n) for n in [*range(1, 41, 2), *range(2, 41, 2)]),
        "shuffled": "a " + " ".join(map(str, shuffled)),
        "each twice": "a " + " ".join(f"{n} {n}" for n in range(1, 41)),
        "all, then all again": "a, a",
    }
    for (title, names), ae, pause in product(orders.items(), ("FAST", "NEW"), (0, 20)):
        head = names if not pause else names.replace("a, a", "a 1-40")
        again = 10 + pause
        rest = f"{again} {ae} opens y\n{again} y carries a every 0.1\n{again + 5} y releases"
        yield Transfer(
            f"{title}, {ae}" + (f", all again {pause} s later" if pause else ""),
            f"""
            series a: 40 CT
            past of {ae}: {PAST[ae]}
            0 {ae} opens x
            0 x carries {head} every 0.1
            8.1 x releases
            {rest if pause else ""}
            """,
        )
    for lag, rate in product((0.5, 2, 15), (0.1, 0.4)):
        yield Transfer(
            f"two routes at once, the second {lag} s behind, every {rate} s",
            f"""
            series a: 40 CT
            past of FAST: {PAST["FAST"]}
            past of PACS: {PAST["SPLITTER"]}
            0 FAST opens x
            0 x carries a 1-38 every 0.1
            4 x releases
            {lag} PACS opens y
            {lag} y carries a every {rate}
            {lag + 40 * rate} y releases
            """,
        )


def announced_wrongly() -> Iterator[Transfer]:
    """Announcements that name too few, too many, or what is never sent."""
    for n, pause in product((20, 39), (0.1, 0.5)):
        yield Transfer(
            f"MPPS names {n} of 40, before they come, every {pause} s",
            f"""
            series a: 40 CT
            past of FAST: {PAST["FAST"]}
            0 MPPS p of FAST begins
            0.1 MPPS p completes naming a 1-{n}
            0.2 FAST opens x
            0.2 x carries a every {pause}
            {0.2 + 40 * pause} x releases
            """,
        )
        yield Transfer(
            f"an IAN of the first {n} of 40, from before, split there for 20 s, {pause}",
            f"""
            series a: 40 CT
            past of SLOW: {PAST["SLOW"]}
            0 IAN of SLOW names a 1-{n}
            1 SLOW opens x
            1 x carries a 1-{n} every {pause}
            {1 + n * pause} x releases
            {21 + n * pause} SLOW opens y
            {21 + n * pause} y carries a {n + 1}-40 every {pause}
            {41 + 20 * pause + n * pause} y releases
            """,
        )
    for kind in ("RAW", "PR"):
        yield Transfer(
            f"MPPS names {kind} that comes 3 s after the images",
            f"""
            series a: 40 CT
            series r: 1 {kind}
            0 MPPS p of NEW begins
            0 NEW opens x
            0 x carries a every 0.1
            4 x releases
            4.1 MPPS p completes naming a, r
            7 NEW opens y
            7 y carries r every 0.1
            7.2 y releases
            """,
        )
    for pause in (20, 45):
        yield Transfer(
            f"headers that count on, split for {pause} s",
            f"""
            series a: 40 CT
            past of SLOW: {PAST["SLOW"]}
            headers of a count on in study
            headers of a count on in series
            0 SLOW opens x
            0 x carries a 1-20 every 0.1
            2 x releases
            {2 + pause} SLOW opens y
            {2 + pause} y carries a 21-40 every 0.1
            {4 + pause} y releases
            """,
        )
        yield Transfer(
            f"the sender counts too few while it is still sending, {pause} s",
            f"""
            series a: 40 CT
            past of FAST: {PAST["FAST"]}
            0 FAST opens x
            0 x carries a 1-20 every 0.1
            2.5 FAST is asked
            2.8 FAST answers a 20
            3.5 x carries a 21-40 every 0.1
            {6 + pause} x releases
            """,
        )
        yield Transfer(
            f"headers say more than there are, {pause} every",
            f"""
            series a: 40 CT
            headers of a count {40 + pause} in series
            0 FAST opens x
            0 x carries a every 0.1
            4 x releases
            """,
        )
        yield Transfer(
            f"a discontinued step of {pause}",
            f"""
            series a: {pause} CT
            past of FAST: {PAST["FAST"]}
            0 MPPS p of FAST begins
            0 FAST opens x
            0 x carries a every 0.1
            {pause / 10} x releases
            6 MPPS p discontinues naming a
            """,
        )


def reports() -> Iterator[Transfer]:
    """Reports, key objects and presentation states after the images, by the same or by others."""
    for kind, ae, pause in product(("SR", "KO", "PR"), ("SPLITTER", "WORK"), (2, 10, 30)):
        yield Transfer(
            f"{kind} of {ae} {pause} s after the images",
            f"""
            series a: 40 CT
            series r: 1 {kind}
            past of SPLITTER: {PAST["SLOW"]}
            0 SPLITTER opens x
            0 x carries a every 0.1
            4 x releases
            {4 + pause} {ae} opens y
            {4 + pause} y carries r every 0.1
            {4.2 + pause} y releases
            """,
        )


def layouts() -> Iterator[Transfer]:
    """Series that are no single stack, and are whole all the same."""
    for layout, acquisition in product(("phases", "none"), ("", "40", "80")):
        yield Transfer(
            f"layout {layout}, acquisition {acquisition or 'not counted'}",
            f"""
            series a: 40 MR
            series b: 40 MR
            layout {layout}
            past of FAST: {PAST["FAST"]}
            {f"headers of a count {acquisition} in acquisition" if acquisition else ""}
            0 FAST opens x
            0 x carries a, b every 0.1
            8 x releases
            """,
        )


def truncated() -> Iterator[Transfer]:
    """Sets of which a part never comes."""
    ends = {
        "a hole, released": ("a 1-17, a 21-40", "releases", ""),
        "a hole, aborted": ("a 1-17, a 21-40", "aborts", ""),
        "no end, aborted": ("a 1-30", "aborts", ""),
        "no end, lost": ("a 1-30", "is lost", ""),
        "no end, MPPS": (
            "a 1-30",
            "releases",
            "0 MPPS p of FAST begins\n5 MPPS p completes naming a",
        ),
        "no end, MPPS never ends": ("a 1-30", "releases", "0 MPPS p of FAST begins"),
        "no end, IAN": ("a 1-30", "releases", "5 IAN of FAST names a"),
        "no end, C-FIND": ("a 1-30", "releases", "5 FAST is asked\n6 FAST answers a 40"),
        "no end, acquisition": ("a 1-30", "releases", "headers of a count 40 in acquisition"),
        "no end, headers": ("a 1-30", "releases", "headers of a count 40 in study"),
        "no end, refused": ("a 1-39", "releases", "3.99 x refuses a 40"),
        "no end, nothing told": ("a 1-30", "releases", ""),
        "no end, left open": ("a 1-30", "stays", ""),
    }
    for title, (names, end, told) in ends.items():
        yield Transfer(
            title,
            f"""
            series a: 40 CT
            past of FAST: {PAST["FAST"]}
            0 FAST opens x
            0 x carries {names} every 0.1
            {"" if end == "stays" else f"4.2 x {end}"}
            {told}
            """,
        )


def beyond() -> Iterator[Transfer]:
    """What nobody can know when it happens: a proof that is untrue, a scan that is added later."""
    for pause in (30, 300):
        yield Transfer(
            f"a step that begins {pause} s after the first was completed",
            f"""
            series a: 30 CT
            series b: 30 CT
            0 MPPS p of FAST begins
            0 FAST opens x
            0 x carries a every 0.1
            3 x releases
            4 MPPS p completes naming a
            {pause} MPPS q of FAST begins
            {pause} FAST opens y
            {pause} y carries b every 0.1
            {pause + 3} y releases
            {pause + 4} MPPS q completes naming b
            """,
        )
        yield Transfer(
            f"a gateway is asked {pause} s before it gets the second series itself",
            f"""
            series a: 30 CT
            series b: 30 CT
            0 GATE opens x
            0 x carries a every 0.1
            3 x releases
            3.1 GATE is asked
            3.3 GATE answers a 30
            {pause} GATE opens y
            {pause} y carries b every 0.1
            {pause + 3} y releases
            """,
        )


FAMILIES: tuple[Family, ...] = (
    clean,
    split,
    slow,
    broken,
    refused,
    interleaved,
    late_series,
    out_of_order,
    announced_wrongly,
    reports,
    layouts,
    truncated,
)


def corpus() -> list[Transfer]:
    """Return every transfer that evidence can decide."""
    return [transfer for family in FAMILIES for transfer in family()]
