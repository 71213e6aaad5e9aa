"""Recall, calibration and reports."""
