"""Offline pre-training of Tandem: data → towers → objectives → evaluation → bundle."""

import os

# onnxruntime sends telemetry to Microsoft unless this is set before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
