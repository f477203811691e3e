"""What a training run keeps and survives: its curve, its checkpoints, its batches, its end.

`espnet_plugin.trainer` puts these parts around ESPnet's trainer.
"""
