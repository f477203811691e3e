"""Watches a training run: bad batches and utterances, failure signatures, speed.

In the order of reading:

| module | what it does |
| --- | --- |
| `options.py` | the options, and what must be installed for them |
| `events.py` | an event goes to the log, to stdout and into `events.jsonl` |
| `console.py` | ... and not into the log of the same console |
| `spikes.py` | the running level of the loss, and what lies far above it |
| `faults.py` | utterances that cannot be read: skipped in the loader, counted, listed |
| `signatures.py` | what a curve says about the run: forgetting, divergence, ... |
| `flops.py`, `peaks.py` | operations of an update by formula; what a device can do |
| `meter.py` | utterances/s, tokens/s, memory, MFU, time left |
| `ranks.py` | the same decision on every rank |
| `watch.py` | puts these around ESPnet's `train_one_epoch` |
"""
