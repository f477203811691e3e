"""Model directories on disk: atomic writes, hashes, strict loading and saving.

A system's directory is a Hugging Face model directory (``config.json``, ``model.safetensors`` or
shards, tokenizer, ``generation_config.json``). Everything that reads or writes one goes through
here, so that a kill leaves the old file or the new one and never half of either.

Importing this package does not import torch.
"""

from espnet_plugin.checkpoint.files import (
    atomic_dir,
    atomic_write,
    fsync_dir,
    read_json,
    sha256_file,
    temporary_sibling,
    write_json,
)
from espnet_plugin.checkpoint.layout import (
    EMBEDDING,
    INDEX,
    ITEM_BYTES,
    OUTPUT,
    WEIGHTS,
    encode_header,
    model_layout,
    read_layout,
    split_shards,
)
from espnet_plugin.checkpoint.parallel import for_each, usable_threads
from espnet_plugin.checkpoint.places import CHUNK_BYTES, Place, Reader, Writer
from espnet_plugin.checkpoint.tensors import (
    SINUSOIDS,
    Tensors,
    check_dtypes,
    check_state,
    expected_shapes,
    fp16_tensor_hash,
    load_config,
    load_state,
    model_dir_exists,
    model_hash,
    tensor_bytes,
    tensor_hashes,
)
from espnet_plugin.checkpoint.write import (
    CARRIED,
    DTYPES,
    dtype_name,
    model_dir_writer,
    safetensors_writer,
    save_model_dir,
    torch_dtype,
    write_safetensors,
)

__all__ = [
    "CARRIED",
    "CHUNK_BYTES",
    "DTYPES",
    "EMBEDDING",
    "INDEX",
    "ITEM_BYTES",
    "OUTPUT",
    "SINUSOIDS",
    "WEIGHTS",
    "Place",
    "Reader",
    "Tensors",
    "Writer",
    "atomic_dir",
    "atomic_write",
    "check_dtypes",
    "check_state",
    "dtype_name",
    "encode_header",
    "expected_shapes",
    "for_each",
    "fp16_tensor_hash",
    "fsync_dir",
    "load_config",
    "load_state",
    "model_dir_exists",
    "model_dir_writer",
    "model_hash",
    "model_layout",
    "read_json",
    "read_layout",
    "safetensors_writer",
    "save_model_dir",
    "sha256_file",
    "split_shards",
    "temporary_sibling",
    "tensor_bytes",
    "tensor_hashes",
    "torch_dtype",
    "usable_threads",
    "write_json",
    "write_safetensors",
]
