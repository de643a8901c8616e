"""Which test files `make quick` runs follows from what they import."""

import pytest

from tests.import_closure import PROJECT, heavy_imports, imported_names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tests/test_house.py", set()),
        ("experiments/sizes.py", set()),
        ("codegen.py", {"paxml", "jax"}),
        ("tests/experiments/test_experiments_registry.py", {"paxml"}),  # by a script beside it
        ("codegen_pax/runs/launch.py", {"paxml"}),  # by the name of a program
        ("tests/docs/test_docs_site.py", {"sphinx"}),
    ],
)
def test_heavy_imports_are_found_through_other_files(name, expected):
    assert heavy_imports(PROJECT / name) >= expected
    assert bool(heavy_imports(PROJECT / name)) == bool(expected)


def test_imports_of_functions_count_and_those_of_type_checkers_do_not(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\nelse:\n    import numpy\n"
        "def run():\n    from jax import numpy as jnp\n    return jnp\n"
    )
    assert {"jax", "numpy"} <= imported_names(path)
    assert "torch" not in imported_names(path)
