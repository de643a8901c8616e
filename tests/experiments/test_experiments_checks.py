"""Every value of a row of the tables is checked where the row is made."""

import math
from dataclasses import replace

import numpy as np
import pytest

from experiments.declaration import declarations
from experiments.meshes import PLACEMENTS, Mesh
from experiments.phases import PHASES, Phase, ancestors
from experiments.profiles import Budget
from experiments.recipes import RECIPES
from experiments.sizes import SIZES

ROWS = {
    "size": SIZES["350M"],
    "recipe": RECIPES["paper"],
    "phase": Phase("Rust", languages=("rust",), start="Mono", tokens=10**10),
    "instruct": PHASES["Instruct"],
    "mesh": Mesh((1, 8, 1)),
    "placement": PLACEMENTS["350M"][0],
    "budget": Budget(steps=10, warmup_steps=1),
}
NAN = math.nan
RATES = dict.fromkeys(("350M", "2B", "6B", "16B"), 1e-4)

WRONG = [
    ("recipe", {"cosine_ends": "anneal_step"}, "nearest: anneal_steps"),
    ("recipe", {"floor": "confg"}, "nearest: config"),
    ("recipe", {"decay": "matrix"}, "nearest: matrices"),
    ("recipe", {"decay": None}, "decay=None; expected one of stacked_rank, matrices"),
    ("recipe", {"accumulation_dtype": "fp32"}, "no accumulation_dtype is called 'fp32'"),
    ("recipe", {"batch": "papr"}, "nearest: paper"),
    ("recipe", {"embedding_bias": "no"}, "embedding_bias='no'; expected True or False"),
    ("recipe", {"z_loss": -1e-4}, "z_loss=-0.0001; expected a number at least 0"),
    ("recipe", {"weight_decay": NAN}, "weight_decay=nan"),
    ("recipe", {"beta2": 1.0}, "beta2=1.0; expected a number from 0 to below 1"),
    ("recipe", {"epsilon": 0}, "epsilon=0; expected a number above 0"),
    ("recipe", {"clip_norm": math.inf}, "clip_norm=inf"),
    ("recipe", {"clip_norm": True}, "clip_norm=True"),
    ("recipe", {"name": " "}, "name=' '"),
    ("phase", {"loss_on": "answers"}, "nearest: answer"),
    ("phase", {"vocabulary": "gpt-2"}, "nearest: gpt2"),
    ("phase", {"languages": "rust"}, "languages='rust'; expected a tuple, as ('rust',)"),
    ("phase", {"languages": ("rsut",)}, "nearest: rust"),
    ("phase", {"languages": ("rust", "go", "rust")}, "languages has rust twice"),
    ("phase", {"start": "Rust"}, "start='Rust' is itself"),
    ("phase", {"tokens": 0}, "tokens=0; expected a whole number, at least 1"),
    ("phase", {"tokens": 1e9}, "write 1000000000"),
    ("phase", {"steps": 10}, "exactly one of tokens and steps"),
    ("phase", {"tokens": None, "steps": -5}, "steps=-5"),
    ("phase", {"warmup_steps": -1}, "warmup_steps=-1; expected a whole number, at least 0"),
    ("phase", {"anneal_steps": 2.5}, "anneal_steps=2.5"),
    ("phase", {"batch_tokens": True}, "batch_tokens=True"),
    ("phase", {"packing": 1}, "packing=1; expected True or False"),
    ("instruct", {"packing": True}, "expected packing=False"),
    ("phase", {"learning_rate": {"350M": 1e-4}}, "has nothing for size 2B, 6B, 16B"),
    ("phase", {"learning_rate": RATES | {"350": 1e-4}}, "nearest: 350M"),
    (
        "phase",
        {"learning_rate": RATES | {"6B": 0}},
        "learning_rate['6B']=0; expected a number above",
    ),
    ("phase", {"learning_rate": RATES | {"6B": NAN}}, "learning_rate['6B']=nan"),
    ("phase", {"learning_rate": 1e-4}, "learning_rate=0.0001; expected a table by size"),
    ("phase", {"learning_rate_end": {"350M": 1e-3}}, "learning_rate_end['350M']=0.001 is above"),
    ("phase", {"released_step": {"2b": 5}}, "nearest: 2B"),
    ("phase", {"humaneval_pass_at_1": {"2B": 127}}, "from 0 to 100"),
    ("phase", {"unverified": {"2B": ("learning_rates",)}}, "nearest: learning_rate"),
    ("phase", {"unverified": {"2B": "steps"}}, "unverified['2B']='steps'; expected a tuple"),
    ("phase", {"prompts": "fn main"}, "prompts='fn main'; expected a tuple"),
    ("phase", {"prompts": ("fn main", "")}, "prompts=''"),
    ("phase", {"mixture": ""}, "mixture=''"),
    ("size", {"remat": "save_nothin"}, "nearest: save_nothing"),
    ("size", {"attention": "flesh"}, "nearest: flash"),
    ("size", {"loss_chunk": -1}, "loss_chunk=-1; expected a whole number, at least 0"),
    ("size", {"layers": 0}, "layers=0"),
    ("size", {"layers": 2.0}, "layers=2.0"),
    ("size", {"heads": 15}, "model_dims=1024; expected heads * head_dims, 15 * 64 = 960"),
    ("size", {"rotary_dims": 33}, "rotary_dims=33; expected an even number, at most head_dims=64"),
    ("size", {"rotary_dims": 66}, "rotary_dims=66"),
    ("size", {"context": 1}, "context=1"),
    ("size", {"profile": "laptop"}, "profile='laptop'; expected a profile"),
    ("size", {"batch_tokens": {"paper": 0}}, "batch_tokens['paper']=0"),
    ("size", {"batch_tokens": 1024}, "batch_tokens=1024; expected a table by recipe"),
    ("size", {"learning_rate": {"Mono": 0}}, "learning_rate['Mono']=0; expected a number above 0"),
    ("size", {"learning_rate_end": {"Mono": NAN}}, "learning_rate_end['Mono']=nan"),
    ("size", {"name": "350 M"}, "name='350 M'"),
    ("mesh", {"shape": (1, 8)}, "expected devices along replica, data, mdl"),
    ("mesh", {"shape": (1, 0, 1)}, "data=0; expected a whole number, at least 1"),
    ("mesh", {"shape": (1, 8.0, 1)}, "data=8.0"),
    ("mesh", {"shape": "1x8x1"}, "shape='1x8x1'"),
    ("budget", {"warmup_steps": -1}, "warmup_steps=-1"),
    ("budget", {"steps": 0}, "steps=0"),
    (
        "placement",
        {"micro_batch_rows": 12},
        "expected a multiple of replica x data = 8 of mesh 1x8",
    ),
]


@pytest.mark.parametrize(("row", "changes", "message"), WRONG)
def test_a_wrong_value_is_refused(row, changes, message):
    with pytest.raises(ValueError) as error:
        replace(ROWS[row], **changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_words_and_numbers_are_stored_as_what_they_mean():
    recipe = replace(RECIPES["jaxformer"], decay="matrices", floor="tenth")
    assert recipe.decay is RECIPES["paper"].decay and recipe.floor == "tenth"
    phase = replace(ROWS["phase"], tokens=np.int64(5), languages=["rust", "go"])
    assert type(phase.tokens) is int and phase.languages == ("rust", "go")
    assert Mesh([1, np.int32(2), 1]).shape == (1, 2, 1)


def test_phases_that_start_in_a_circle_are_refused():
    table = {
        name: Phase(name, start=start, languages=("c",), tokens=1)
        for name, start in (("A", "B"), ("B", "C"), ("C", "A"))
    }
    with pytest.raises(ValueError, match="A starts in a circle, A <- B <- C <- A"):
        list(declarations(table))
    lost = {"A": replace(table["A"], start="Mnoo")} | PHASES
    with pytest.raises(ValueError, match="phase A: start: no phase is called 'Mnoo'; nearest: Mon"):
        list(declarations(lost))
    with pytest.raises(ValueError, match="phase B is in the table as 'X'"):
        list(declarations({"X": replace(table["B"], start=None)}))
    assert [phase.name for phase in ancestors(PHASES["Mono"])] == ["Multi", "NL"]
