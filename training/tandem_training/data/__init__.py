"""Shards, samples, captions and batches."""
