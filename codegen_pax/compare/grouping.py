"""To which part of an experiment a path of its configuration belongs: to exactly one."""

from __future__ import annotations

import re

NETWORK, RECIPE, DATA, HARDWARE, RUN = GROUPS = ("network", "recipe", "data", "hardware", "run")

# The first pattern found in a path decides; what no pattern knows belongs to the run, so that
# nothing is left out. Paths begin with the part of the experiment: task, datasets, ...
_RULES = tuple(
    (re.compile(pattern), group)
    for pattern, group in (
        # How arrays and batches are cut over devices, and what is kept in their memory.
        (r"mesh", HARDWARE),
        (r"split_dims_mapping|split_mapping", HARDWARE),
        (r"\.(repeat_optimizer_dims_mapping|contiguous_submeshes|checkpoint_policy)\b", HARDWARE),
        (r"\.(num_infeed_hosts|infeed_host_index|custom_device_order)\b", HARDWARE),
        # The batch and the loss are the recipe's, wherever Pax keeps them.
        (r"\.batch_size$", RECIPE),
        (r"^task\.model\b.*\.(z_loss_weight|entropy_loss_weight|label_smoothing\w*)\b", RECIPE),
        (r"^(datasets|decode_datasets|input_specs)\b", DATA),
        (r"^task\.train\.(learner|num_train_steps|random_seed|init_from_\w+)\b", RECIPE),
        (r"^task\.(vn|loss_aggregator|early_stopping_fn)\b", RECIPE),
        (r"^task\.model\.decoder_tpl\b", RUN),
        (r"^task\.model\b", NETWORK),
    )
)


def group_of(path: str) -> str:
    """One of `GROUPS`."""
    return next((group for pattern, group in _RULES if pattern.search(path)), RUN)
