"""Offline pre-training of Tandem: data → towers → objectives → evaluation → bundle."""
