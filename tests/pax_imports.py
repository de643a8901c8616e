"""Imports what `paxml.main` does, and what experiments do: for the fork server of `pax_process`.

But not `paxml.main` itself, which defines its flags as it runs, nor `codegen`, which reads the
environment. All of it stays: without garbage collection while it is imported, a sixth of the time
is saved, and what it made is not looked through again by any process that is forked.
"""

import gc
import importlib

gc.disable()
for name in ("paxml.eval_lib", "paxml.train", "paxml.tuning_lib", "experiments.registry"):
    importlib.import_module(name)
gc.freeze()
gc.enable()
