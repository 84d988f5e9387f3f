"""The C-STORE SCP of one association (PS3.4 Annex B): from the request to the answer.

The data set goes straight into an `Arriving`. Its answer is sent when the receive log says that it
is durable; by then the peer may be gone, or have sent the next.
"""

from __future__ import annotations

import structlog

from dicom_node.errors import InstanceRefused, StoreFull
from dicom_node.ledger.arrivals import NotedEvent
from dicom_node.ledger.events import INSTANCE_REFUSED
from dicom_node.protocol.command import Command, Element, lo, response, store_response
from dicom_node.receive.arriving import Arriving
from dicom_node.receive.contexts import AcceptedContext
from dicom_node.receive.doorway import Doorway
from dicom_node.receive.identity import IdentityReader
from dicom_node.receive.owner import Owner
from dicom_node.receive.policy import Identity, Status, check_command, check_identity
from dicom_node.receive.rows import InstanceTexts, event_texts
from dicom_node.store.file_meta import file_meta_of
from dicom_node.store.large import LargeFile, part10_path
from dicom_node.store.local import study_folder
from dicom_node.store.receive_log import Entry
from dicom_node.store.record import RecordKind

log = structlog.get_logger()

Refusal = InstanceRefused | StoreFull


class Storing:
    """Takes instances, one after the other."""

    def __init__(self, doorway: Doorway, owner: Owner) -> None:
        self._doorway = doorway
        self._owner = owner
        self._reader = IdentityReader()
        self._arriving: Arriving | None = None
        self._refusal: Refusal | None = None

    @property
    def must_wait(self) -> bool:
        """Whether the disk has to catch up before more may be read."""
        return self._arriving is not None and self._arriving.must_wait

    def begin(self, command: Command, context: AcceptedContext) -> None:
        """Take a C-STORE-RQ; what is wrong with it is answered when its data set has ended."""
        sop_class_uid = command.text(Element.AFFECTED_SOP_CLASS_UID)
        sop_instance_uid = command.text(Element.AFFECTED_SOP_INSTANCE_UID)
        self._refusal = None
        try:
            check_command(Identity(sop_class_uid, sop_instance_uid, "", ""))
            if sop_class_uid != context.abstract_syntax or not context.is_storage:
                raise InstanceRefused(
                    "the command's SOP Class UID is not that of its presentation context",
                    status=Status.DATA_SET_DOES_NOT_MATCH,
                )
            if not command.has_data_set:
                raise InstanceRefused(
                    "the command announces no data set", status=Status.CANNOT_UNDERSTAND
                )
            self._doorway.require_room()
        except (InstanceRefused, StoreFull) as error:
            self._refusal = error
            return
        self._arriving = Arriving(
            self._doorway.pool,
            self._doorway.large_files,
            self._reader,
            file_meta_of(
                sop_class_uid,
                sop_instance_uid,
                context.transfer_syntax,
                self._owner.calling_ae_title,
            ),
            context.transfer_syntax,
            self._block_written,
        )

    def room(self) -> memoryview | None:
        """Return where the next bytes belong, None if they are not wanted."""
        if self._arriving is None:
            return None
        try:
            return self._arriving.room()
        except InstanceRefused as error:
            self._refuse(error)
            return None

    def took(self, size: int) -> None:
        """Take note that so many bytes lie in the room."""
        if self._arriving is not None:
            self._arriving.took(size)
            self._watch(self._arriving)

    def write(self, fragment: memoryview) -> None:
        """Take the next bytes of the data set."""
        if self._arriving is None:
            return
        try:
            self._arriving.write(fragment)
        except InstanceRefused as error:
            self._refuse(error)
        else:
            self._watch(self._arriving)

    def end(self, command: Command, context_id: int, context: AcceptedContext) -> None:
        """Hand the whole instance to the log, or answer why not."""
        arriving, self._arriving = self._arriving, None
        refusal, self._refusal = self._refusal, None
        pending = _Pending(self._doorway, self._owner, command, context_id)
        if arriving is None:
            pending.refuse(refusal or StoreFull("it could not be kept"))
            return
        try:
            identity, digest = arriving.end()
            check_identity(_named(command), identity)
            self._doorway.refuse_conflict(identity, digest.hex())
        except (InstanceRefused, StoreFull) as error:
            arriving.drop()
            pending.refuse(error)
            return
        self._owner.record_opening()
        texts = InstanceTexts(
            identity.sop_instance_uid,
            identity.sop_class_uid,
            identity.study_instance_uid,
            identity.series_instance_uid,
            context.transfer_syntax,
            self._owner.association_id,
            self._owner.calling_ae_title,
            self._doorway.clock(),
        )
        self._owner.owes_an_answer()
        if arriving.large is None:
            pending.append(arriving, texts, digest)
        else:
            pending.finish_file(arriving, arriving.large, texts, digest.hex())

    def drop(self) -> None:
        """Forget what has not come to its end."""
        if self._arriving is not None:
            self._arriving.drop()
            self._arriving = None

    def _watch(self, arriving: Arriving) -> None:
        if arriving.data_bytes > self._doorway.settings.instance_bytes_max:
            self._refuse(StoreFull("it is larger than receive.instance_bytes_max"))
        elif arriving.must_wait:
            self._owner.hold()

    def _refuse(self, error: Refusal) -> None:
        self.drop()
        self._refusal = error

    def _block_written(self, arriving: Arriving, block: memoryview) -> None:
        """Called on the writer's thread."""

        def take_back() -> None:
            self._doorway.pool.give(block)
            arriving.blocks_under_way -= 1
            self._owner.go_on()

        self._doorway.call_soon(take_back)


class _Pending:
    """One C-STORE whose answer waits for the disk."""

    __slots__ = ("_command", "_context_id", "_doorway", "_owner")

    def __init__(self, doorway: Doorway, owner: Owner, command: Command, context_id: int) -> None:
        self._doorway = doorway
        self._owner = owner
        self._command = command
        self._context_id = context_id

    def append(self, arriving: Arriving, texts: InstanceTexts, digest: bytes) -> None:
        """Have the log write an instance."""

        def done(entry: Entry) -> None:
            arriving.free()
            self._written(entry)

        self._doorway.append(
            Entry(
                RecordKind.INSTANCE,
                texts.texts(),
                arriving.record(),
                arriving.data_offset,
                arriving.data_bytes,
                digest,
                done,
            )
        )

    def finish_file(
        self, arriving: Arriving, file: LargeFile, texts: InstanceTexts, digest: str
    ) -> None:
        """Make a large instance's file durable, then have the log write its row."""
        folder = study_folder("instances", texts.study_instance_uid)
        path = part10_path(folder, texts.series_instance_uid, texts.sop_instance_uid, digest)
        with_file = texts.texts_with_file(path, arriving.file_bytes, digest)

        def finished() -> None:
            if file.error is not None:
                self._failed(file.error)
            else:
                self._doorway.append(
                    Entry(RecordKind.INSTANCE_FILE, with_file, owner=self._written)
                )

        self._doorway.large_files.finish(file, path, lambda: self._doorway.call_soon(finished))

    def refuse(self, error: Refusal) -> None:
        """Answer that an instance is not taken."""
        status = error.status if isinstance(error, InstanceRefused) else Status.OUT_OF_RESOURCES
        self._note(status, error.message)
        comment: dict[int, bytes] = {Element.ERROR_COMMENT: lo(error.message)}
        self._owner.answer(response(self._command, status, fields=comment), self._context_id)

    def _written(self, entry: Entry) -> None:
        if entry.error is not None:
            self._failed(entry.error)
        else:
            self._answer(Status.SUCCESS)

    def _failed(self, error: Exception) -> None:
        """Have the sender keep its copy."""
        self._note(Status.OUT_OF_RESOURCES, "the disk is full or broken")
        log.error("instance_not_kept", error=type(error).__name__)
        self._answer(Status.OUT_OF_RESOURCES)

    def _answer(self, status: int) -> None:
        if self._owner.is_open:
            self._doorway.checkpoint("receive.answering")
            self._owner.answer(store_response(self._command, status), self._context_id)
        self._owner.has_answered()

    def _note(self, status: int, message: str) -> None:
        sop_instance_uid = _shown(self._command.text(Element.AFFECTED_SOP_INSTANCE_UID))
        log.warning(
            "instance_refused",
            association_id=self._owner.association_id,
            sop_instance_uid=sop_instance_uid,
            status=f"0x{status:04X}",
            reason=message,
        )
        now = self._doorway.clock()
        row = NotedEvent(now, "instance", sop_instance_uid, "REFUSED", message)
        self._doorway.append(Entry(RecordKind.EVENT, event_texts(row)))
        # with the association too: whatever study it carries may lack this one
        subject = ("association", self._owner.association_id)
        row = NotedEvent(now, *subject, INSTANCE_REFUSED, sop_instance_uid)
        self._doorway.append(Entry(RecordKind.EVENT, event_texts(row)))


def _named(command: Command) -> Identity:
    return Identity(
        command.text(Element.AFFECTED_SOP_CLASS_UID),
        command.text(Element.AFFECTED_SOP_INSTANCE_UID),
        "",
        "",
    )


def _shown(uid: str) -> str:
    """Return a UID that a stranger wrote as it may stand in a log or the ledger."""
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in uid[:64]) or "(none)"
