"""Every test runs in 64-bit floats; where arrays are computed, shapes and types are checked at run time.

Examples of a property are the same in every run; `--hypothesis-profile=default` draws others. Programs are compiled
quickly rather than well: most tests run theirs for less time than a compiler would take to make them fast.
"""

import os

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

import jax
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

settings.register_profile("repeated", derandomize=True, deadline=None)
settings.load_profile("repeated")
jax.config.update("jax_enable_x64", True)
# Rooms are imported when first asked for, so the hook stays.
install_import_hook(
    ["tendsto.iteration", "tendsto.problems", "tendsto.optimize", "tendsto.federated"], "runtime_types.check"
)


@pytest.fixture(autouse=True, scope="module")
def release_programs():
    """Forget compiled programs after each module: one process that kept thousands of them would run out of mappings."""
    yield
    jax.clear_caches()
