"""Images of several series through one network at once, with the answers of single runs.

A network may take n images in one tensor, but whether it then gives each of them the bits that it
gives it alone is for its kernels to say: a matrix product may add in another order when it has one
row. So n is trusted only after n images, which had to be asked about anyhow, were asked both ways
`_PROOFS` times; until then, and once in `_PROVE_AGAIN` batches after that, the answers of the
single runs are those that count. One bit of difference and the network is asked image by image from
then on, as is one that takes a single image only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.answers import finite, outputs_of
from dicom_node.infer.asking import SLICE
from dicom_node.infer.blocks import Model
from dicom_node.infer.runtimes.port import Runtime
from dicom_node.infer.series import LeftOut, SourceImage

log = structlog.get_logger()

_PROOFS = 2
_PROVE_AGAIN = 64

Tensor = NDArray[np.float32]
"""One image as its network sees it, shape (rows, columns)."""
Answer = NDArray[np.float32]
"""The probabilities that a network gives one image, shape (outputs,)."""


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """The images of one series that a network can be asked about."""

    images: tuple[SourceImage, ...]
    tensors: tuple[Tensor, ...]
    """One for each image, in the same order."""
    left_out: LeftOut


class ImageBatch:
    """Asks one network about many images; kept as long as the network.

    Parameters
    ----------
    model : Model
    runtimes : sequence of Runtime
        Of the network, or of the members of an ensemble.
    images_max : int
        So many in one tensor at most.
    """

    def __init__(self, model: Model, runtimes: Sequence[Runtime], images_max: int) -> None:
        self._model = model
        self._runtimes = runtimes
        self.images_max = images_max
        """It shrinks when the device has no memory for so many, to 1 where a batch is of no use."""
        self._asked = Counter[int]()

    def ask(self, tensors: Sequence[Tensor]) -> list[Answer | None]:
        """Return the answer to each image, None for those that must be asked about by themselves.

        Never raises for what a network or a device does: what goes wrong with many is tried with
        one, where it is known whose fault it is.
        """
        answers: list[Answer | None] = []
        while len(answers) < len(tensors):
            answers += self._ask_part(tensors[len(answers) : len(answers) + self.images_max])
        return answers

    def alone(self, tensor: Tensor) -> Answer:
        """Return the answer to one image.

        Raises
        ------
        EngineError
            If the network fails on it, or does not answer with probabilities.
        """
        answer: Answer = finite(self._outputs([tensor]), self._model)[0]
        return answer

    def _ask_part(self, tensors: Sequence[Tensor]) -> list[Answer | None]:
        count = len(tensors)
        if count == 1:
            return [None]
        try:
            together = self._together(tensors)
        except EngineUnavailable as error:
            self._shrink(count // 2, error.message)
            return [None] * count
        except EngineError as error:
            self._shrink(1, error.message)
            return [None] * count
        self._asked[count] += 1
        is_proven = self._asked[count] > _PROOFS and self._asked[count] % _PROVE_AGAIN != 0
        return together if is_proven else self._proven(tensors, together)

    def _together(self, tensors: Sequence[Tensor]) -> list[Answer | None]:
        """Ask once; what is no number is None, since it must not be told from the others' fault."""
        return [row if np.isfinite(row).all() else None for row in self._outputs(tensors)]

    def _outputs(self, tensors: Sequence[Tensor]) -> NDArray[np.float32]:
        return outputs_of(np.stack(tensors)[:, None], self._model, self._runtimes, SLICE)

    def _proven(
        self, tensors: Sequence[Tensor], together: Sequence[Answer | None]
    ) -> list[Answer | None]:
        """Return the answers of single runs; compare those of the batch with them."""
        answers: list[Answer | None] = []
        for tensor, of_batch in zip(tensors, together, strict=True):
            try:
                answer = self.alone(tensor)
            except EngineError:
                answers.append(None)
                continue
            answers.append(answer)
            if of_batch is None or answer.tobytes() != of_batch.tobytes():
                self._shrink(1, f"the bits of {len(tensors)} images at once are not those of one")
        return answers

    def _shrink(self, images_max: int, reason: str) -> None:
        if images_max < self.images_max:
            self.images_max = max(1, images_max)
            log.warning(
                "batch_shrunk", model=self._model.file, images_max=self.images_max, reason=reason
            )
