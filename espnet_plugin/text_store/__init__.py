"""Memory-mapped token store: unpaired text, tokenised once, read without a copy.

`write_shard` and `finish_store` make a store, `TextStore` reads it, `TextBatches` says which lines
stand in which batch of a pass over it. Nothing here imports torch.
"""

from espnet_plugin.text_store.batches import TextBatches
from espnet_plugin.text_store.shards import SHARD_LINES, shard_is_finished, write_shard
from espnet_plugin.text_store.store import TextStore, finish_store

__all__ = [
    "SHARD_LINES",
    "TextBatches",
    "TextStore",
    "finish_store",
    "shard_is_finished",
    "write_shard",
]
