"""The module that stock `paxml.main --exp=codegen.<Name>` imports; it registers every experiment.

Experiments are attributes of this module, such as `codegen.CodeGen16BMono`. Importing it also tells
the seqio tasks where prepared corpora are, for programs that read tasks without an experiment, such
as seqio's `cache_tasks_main --module_import=codegen`.
"""

from codegen_pax.data import seqio_sources
from experiments import registry
from experiments.settings import VARIABLES

registry.register_all()
seqio_sources.set_corpora_folder(VARIABLES["data"].read())


def __getattr__(name: str):
    try:
        return registry.experiment_class(name)
    except KeyError as error:
        raise AttributeError(error.args[0]) from None
