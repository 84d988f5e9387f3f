"""The one door to Keras, which reads its backend from the environment when it is imported.

JAX is what the extra `recipes` installs: of the three backends it is the smallest that any machine
gets from PyPI, and on a CPU it computes the same bits each time. Another one that is installed
serves as well: KERAS_BACKEND=tensorflow.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

try:
    import keras
except ImportError as error:  # pragma: no cover - the tests have the extra
    raise SystemExit(
        "Recipes need Keras and a backend: pip install -c constraints.txt -e '.[recipes]'"
    ) from error

__all__ = ["keras"]
