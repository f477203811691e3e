"""Corpora, one file each, and what the synthetic ones are made with; needs no torch, no ESPnet."""
