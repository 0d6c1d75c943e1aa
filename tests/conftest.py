"""Every test runs in 64-bit floats; where arrays are computed, shapes and types are checked at run time."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
# Rooms are imported when first asked for, so the hook stays.
install_import_hook(["tendsto.iteration", "tendsto.problems", "tendsto.optimize"], "runtime_types.check")
