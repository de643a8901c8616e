"""The door: stock `paxml.main --exp=codegen.<Name>` imports it, and every experiment is registered.

`codegen.CodeGen16BMono` and its like are classes of this module. Importing it also tells the seqio
tasks where prepared corpora are, for whoever reads them without an experiment, as seqio's
`cache_tasks_main --module_import=codegen` does.
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
