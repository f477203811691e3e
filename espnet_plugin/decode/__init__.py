"""Decoding: search with a key/value cache, whole sets for many systems, and ESPnet's own search.

In the order of use: `rules` (tokens that may come next), `search` (greedy and beam search over a
batch), `recognizer` (audio in, text out), `audio` and `plan` (sets, batches and what is done
already), `runner` (all systems and sets in one process), `speech2text` (ESPnet's inference class).
"""
