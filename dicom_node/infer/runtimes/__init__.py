"""One module for each runtime, behind one port."""

from __future__ import annotations

import os

# onnxruntime's Linux wheels report to their maker over the network unless this is set before the
# library is loaded; a hospital's node talks to nobody that its administrator did not name.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
