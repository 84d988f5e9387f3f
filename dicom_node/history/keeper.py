"""Reads the headers of what was received, once, and keeps what rules and completeness ask for.

Whoever wants the headers of a study asks here: what is kept comes from the ledger, the rest is read
from the files, in batches, and kept. What identifies the patient is kept as a hash; a rule that
asks for it has it read from the files each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from dicom_node.attributes import AttributesReader
from dicom_node.errors import StudyUnusable
from dicom_node.history.keywords import KeepPolicy, not_kept, of_headers
from dicom_node.ledger.headers import KeptHeader
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Attributes, Instance
from dicom_node.store.local import LocalStore

_BATCH = 200
_STUDIES_REMEMBERED = 8
_HEADERS_REMEMBERED = 20_000
"""Of all studies but the last: some 5 kB each."""

_NOTHING: Attributes = {}

HeadersOfStudy = Mapping[tuple[str, str], KeptHeader]
"""By Series and SOP Instance UID."""


class Stopped(Exception):
    """The node stops: what was not read yet is read after the next start."""


class HeaderKeeper:
    """Reads and keeps headers.

    Parameters
    ----------
    policy : KeepPolicy
    stopping : callable
        Asked between batches.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: LocalStore,
        policy: KeepPolicy,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self.policy = policy
        self._stopping = stopping
        self._remembered: OrderedDict[str, dict[tuple[str, str], KeptHeader]] = OrderedDict()

    def of_study(
        self, study_instance_uid: str, instances: Sequence[Instance] | None = None
    ) -> HeadersOfStudy:
        """Return a header of each instance of a study, with what is kept of it.

        Parameters
        ----------
        instances : sequence of Instance, optional
            Those of the study, for who has them already.

        Raises
        ------
        Stopped
            If the node stops meanwhile.
        """
        if instances is None:
            instances = self._ledger.studies.instances(study_instance_uid)
        known = self._known(study_instance_uid)
        wanted = self.policy.keywords
        missing = [
            instance
            for instance in instances
            if (header := known.get(_key(instance))) is None
            or header.digest != instance.digest
            or not wanted <= header.keywords
        ]
        readers: dict[str, AttributesReader] = {}
        for begin in range(0, len(missing), _BATCH):
            if self._stopping():
                raise Stopped
            batch = missing[begin : begin + _BATCH]
            headers = [self._read(instance, readers) for instance in batch]
            self._ledger.headers.keep(study_instance_uid, headers, wanted)
            for header in headers:
                known[header.series_instance_uid, header.sop_instance_uid] = header
        return known

    def with_keywords(
        self, headers: HeadersOfStudy, instances: Iterable[Instance], keywords: Collection[str]
    ) -> Mapping[tuple[str, str], Attributes]:
        """Return these attributes of each header, whatever it takes.

        Those that are not kept are read from the files.
        """
        lacking = not_kept(keywords, self.policy)
        reader = AttributesReader(lacking)
        kept = of_headers(keywords) - lacking
        attributes: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {}
        for instance in instances:
            key = _key(instance)
            header = headers[key]
            had = header.attributes
            attributes[key] = {keyword: had[keyword] for keyword in kept if keyword in had}
            if lacking and not header.unreadable:
                if self._stopping():
                    raise Stopped
                read = reader.read(self._store.file(instance.path))
                attributes[key].update((k, read[k]) for k in lacking if k in read)
        return attributes

    def forget(self, before: float) -> int:
        """Forget the headers of studies of which nothing came since; return how many."""
        self._remembered.clear()
        return self._ledger.headers.forget(before)

    def _known(self, study_instance_uid: str) -> dict[tuple[str, str], KeptHeader]:
        """Return what is known by now; a few studies stay in memory, since they are asked twice."""
        known = self._remembered.get(study_instance_uid)
        if known is None:
            known = {
                (series_uid, uid): header
                for series_uid, of_series in self._ledger.headers.of_study(
                    study_instance_uid
                ).items()
                for uid, header in of_series.items()
            }
            self._remembered[study_instance_uid] = known
            while len(self._remembered) > 1 and self._remembers_much():
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(study_instance_uid)
        return known

    def _remembers_much(self) -> bool:
        headers = sum(map(len, self._remembered.values()))
        return len(self._remembered) > _STUDIES_REMEMBERED or headers > _HEADERS_REMEMBERED

    def _read(self, instance: Instance, readers: dict[str, AttributesReader]) -> KeptHeader:
        wanted = self.policy.keywords
        unreadable, attributes = "", _NOTHING
        reader = readers.setdefault(instance.series_instance_uid, AttributesReader(wanted))
        try:
            read = reader.read(self._store.file(instance.path))
            # the character set comes along, and all of a file that has none of the keywords
            attributes = {k: values for k, values in read.items() if k in wanted}
        except StudyUnusable as error:
            unreadable = error.message
        return KeptHeader(
            instance.series_instance_uid,
            instance.sop_instance_uid,
            instance.digest,
            self.policy.kept(attributes),
            wanted,
            unreadable,
        )


def _key(instance: Instance) -> tuple[str, str]:
    return instance.series_instance_uid, instance.sop_instance_uid
