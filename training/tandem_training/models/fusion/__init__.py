"""Fusion encoders."""
