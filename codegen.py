"""The door: stock `paxml.main --exp=codegen.<Name>` imports it, and every experiment is registered.

`codegen.CodeGen16BMono` and its like are classes of this module.
"""

from experiments import registry

registry.register_all()


def __getattr__(name: str):
    try:
        return registry.experiment_class(name)
    except KeyError as error:
        raise AttributeError(error.args[0]) from None
