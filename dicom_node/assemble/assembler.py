"""The assemble stage: one turn looks at every study that is still arriving."""

from __future__ import annotations

import structlog

from dicom_node.assemble.completeness import judge
from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import AssembleSettings
from dicom_node.ledger.ledger import Ledger

log = structlog.get_logger()


class Assembler:
    """Moves studies from RECEIVING to COMPLETE."""

    def __init__(
        self,
        ledger: Ledger,
        policy: AssembleSettings,
        clock: Clock,
        checkpoint: Checkpoint = pass_checkpoint,
    ) -> None:
        self._ledger = ledger
        self._policy = policy
        self._clock = clock
        self._checkpoint = checkpoint

    def replace_policy(self, policy: AssembleSettings) -> None:
        """Go by another policy from now on."""
        self._policy = policy

    def turn(self) -> float | None:
        """Judge every arriving study; return when to look again, None if nothing is arriving."""
        waits = []
        for evidence in self._ledger.studies.receiving():
            now = self._clock()
            verdict = judge(evidence, self._policy, now)
            if not verdict.complete:
                waits.append(verdict.ask_again_at)
            elif self._ledger.studies.completed(evidence, verdict.reason, now):
                self._checkpoint("assemble.completed")
                log.info(
                    "study_complete",
                    study_instance_uid=evidence.study_instance_uid,
                    revision=evidence.revision,
                    reason=verdict.reason,
                )
            else:
                waits.append(now)  # an instance came in between
        return min(waits, default=None)
