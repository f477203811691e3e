"""Model directories on disk: atomic writes, hashes, strict loading and saving.

A system's directory is a Hugging Face model directory (``config.json``, ``model.safetensors`` or
shards, tokenizer, ``generation_config.json``). Everything that reads or writes one goes through
here, so that a kill leaves the old file or the new one and never half of either.

Importing this package does not import torch.
"""

from espnet_plugin.checkpoint.files import (
    atomic_dir,
    atomic_write,
    read_json,
    sha256_file,
    temporary_sibling,
    write_json,
)
from espnet_plugin.checkpoint.tensors import (
    EMBEDDING,
    INDEX,
    OUTPUT,
    SINUSOIDS,
    WEIGHTS,
    Tensors,
    check_state,
    expected_shapes,
    fp16_tensor_hash,
    load_config,
    load_state,
    model_dir_exists,
    tensor_bytes,
    tensor_hashes,
)
from espnet_plugin.checkpoint.write import (
    CARRIED,
    DTYPES,
    model_dir_writer,
    safetensors_writer,
    save_model_dir,
    torch_dtype,
    write_safetensors,
)

__all__ = [
    "CARRIED",
    "DTYPES",
    "EMBEDDING",
    "INDEX",
    "OUTPUT",
    "SINUSOIDS",
    "WEIGHTS",
    "Tensors",
    "atomic_dir",
    "atomic_write",
    "check_state",
    "expected_shapes",
    "fp16_tensor_hash",
    "load_config",
    "load_state",
    "model_dir_exists",
    "model_dir_writer",
    "read_json",
    "safetensors_writer",
    "save_model_dir",
    "sha256_file",
    "temporary_sibling",
    "tensor_bytes",
    "tensor_hashes",
    "torch_dtype",
    "write_json",
    "write_safetensors",
]
