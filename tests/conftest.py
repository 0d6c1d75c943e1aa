"""Every test runs in 64-bit floats; where arrays are computed, shapes and types are checked at run time."""

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
# Rooms are imported when first asked for, so the hook stays.
install_import_hook(["tendsto.iteration", "tendsto.problems", "tendsto.optimize"], "runtime_types.check")


@pytest.fixture(autouse=True, scope="module")
def release_programs():
    """Forget compiled programs after each module: one process that kept thousands of them would run out of mappings."""
    yield
    jax.clear_caches()
