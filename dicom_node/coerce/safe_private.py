"""Private elements that are known to hold no identity: part of PS3.15 Table E.3.10-1.

Only numbers and defined terms are taken up; free text is not, whoever calls it safe.
"""

from __future__ import annotations

_SAFE = """
7053 Philips PET Private Group: 00 09
2005 Philips MR Imaging DD 001: 0d 0e
2005 PHILIPS MR IMAGING DD 001: 0d 0e
00e1 ELSCINT1: 21 50
01e1 ELSCINT1: 26
01f1 ELSCINT1: 01 07 26 27
0019 GEMS_ACQU_01: 23 24 27
0025 GEMS_SERS_01: 07
0043 GEMS_PARM_01: 27 6f
0045 GEMS_HELIOS_01: 01 02
"""


def _parsed() -> frozenset[tuple[int, str, int]]:
    safe = set()
    for line in _SAFE.split("\n"):
        head, _, offsets = line.partition(":")
        group, _, creator = head.partition(" ")
        safe |= {(int(group, 16), creator, int(offset, 16)) for offset in offsets.split()}
    return frozenset(safe)


SAFE_PRIVATE = _parsed()
"""(group, private creator, element within its block)."""
