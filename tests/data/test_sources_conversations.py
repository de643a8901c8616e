"""Instruction records as people publish them: every part in its place, or a rule that says why."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.data.format.documents import Turn
from codegen_pax.data.sources import conversations, schemas
from codegen_pax.text import instruction_format

CALL = {"name": "weather", "arguments": {"city": "Graz"}}
CALLED = '### Call:\n{"name": "weather", "arguments": {"city": "Graz"}}'
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def user(text):
    return Turn("user", text)


def assistant(text):
    return Turn("assistant", text)


def messages(*pairs, name="messages", **more):
    return {name: [{"role": role, "content": content} for role, content in pairs], **more}


def shared(*pairs, **more):
    return {"conversations": [{"from": who, "value": text} for who, text in pairs], **more}


PLAIN = [user("Add 1 and 2."), assistant("3")]
GIVEN = [user("Add.\n\n### Input:\n1 2"), assistant("3")]
BRIEF = Turn("system", "Be brief.")
READ = {
    "alpaca": ({"instruction": "Add.", "input": "1 2", "output": "3"}, GIVEN),
    "alpaca without input": ({"instruction": "Add 1 and 2.", "input": "", "output": "3"}, PLAIN),
    "alpaca with a system": (
        {"instruction": "Add.", "input": "1 2", "output": "3", "system": "Be brief."},
        [BRIEF, *GIVEN],
    ),
    "alpaca with history": (
        {
            "instruction": "Add.",
            "input": "1 2",
            "output": "3",
            "history": [["Hi", "Ho"], ["He", "Ha"]],
            "system": "Be brief.",
        },
        [BRIEF, user("Hi"), assistant("Ho"), user("He"), assistant("Ha"), *GIVEN],
    ),
    "history of messages": (
        {
            "query": "Add 1 and 2.",
            "response": "3",
            "history": messages(("user", "Hi"), ("assistant", "Ho"))["messages"],
        },
        [user("Hi"), assistant("Ho"), *PLAIN],
    ),
    "dolly": ({"instruction": "Add.", "context": "1 2", "response": "3"}, GIVEN),
    "prompt and completion": ({"prompt": "Add 1 and 2.", "completion": "3"}, PLAIN),
    "question and answer": ({"question": "Add 1 and 2.", "answer": "3"}, PLAIN),
    "problem and solution": ({"problem": "Add 1 and 2.", "solution": "3"}, PLAIN),
    "input and output": ({"input": "Add 1 and 2.", "output": "3"}, PLAIN),
    "openorca": (
        {"system_prompt": "Be brief.", "question": "Add 1 and 2.", "response": "3"},
        [BRIEF, *PLAIN],
    ),
    "an empty system": ({"system_prompt": "", "question": "Add 1 and 2.", "response": "3"}, PLAIN),
    "messages": (messages(("user", "Add 1 and 2."), ("assistant", "3")), PLAIN),
    "a list of messages": (
        messages(("user", "Add 1 and 2."), ("assistant", "3"))["messages"],
        PLAIN,
    ),
    "a system beside messages": (
        messages(("user", "Add 1 and 2."), ("assistant", "3"), system="Be brief."),
        [BRIEF, *PLAIN],
    ),
    "the same system twice": (
        messages(
            ("system", "Be brief."),
            ("user", "Add 1 and 2."),
            ("assistant", "3"),
            system="Be brief.",
        ),
        [BRIEF, *PLAIN],
    ),
    "a system that says nothing": (
        messages(("system", ""), ("user", "Add 1 and 2."), ("assistant", "3")),
        PLAIN,
    ),
    "a developer": (
        messages(("developer", "Be brief."), ("user", "Add 1 and 2."), ("assistant", "3")),
        [BRIEF, *PLAIN],
    ),
    "prompt and completion of messages": (
        {
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Add 1 and 2."},
            ],
            "completion": [{"role": "assistant", "content": "3"}],
        },
        [BRIEF, *PLAIN],
    ),
    "parts": (
        messages(
            ("user", [{"type": "text", "text": "Add"}, {"type": "text", "text": "1 and 2."}]),
            ("assistant", [{"type": "text", "text": "3"}]),
        ),
        [user("Add\n1 and 2."), assistant("3")],
    ),
    "sharegpt": (
        shared(("system", "Be brief."), ("human", "Add 1 and 2."), ("gpt", "3")),
        [BRIEF, *PLAIN],
    ),
    "oasst roles": (
        messages(("prompter", "Add 1 and 2."), ("Assistant", "3"), name="turns"),
        PLAIN,
    ),
    "ultrachat": (
        {"id": "0", "data": ["Hi", "Ho", "Add 1 and 2.", "3"]},
        [user("Hi"), assistant("Ho"), *PLAIN],
    ),
    "xtuner": (
        {
            "conversation": [
                {"system": "Be brief.", "input": "Add 1 and 2.", "output": "3"},
                {"input": "He", "output": "Ha"},
            ]
        },
        [BRIEF, *PLAIN, user("He"), assistant("Ha")],
    ),
    "tools of openai": (
        {
            "messages": [
                {"role": "user", "content": "Rain?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {
                                "name": "weather",
                                "arguments": json.dumps(CALL["arguments"]),
                            },
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "wet"},
                {"role": "assistant", "content": "Yes."},
            ],
            "tools": [TOOL],
        },
        [
            Turn("system", f"### Tools:\n{json.dumps(TOOL)}"),
            user("Rain?"),
            assistant(CALLED),
            Turn("tool", "wet"),
            assistant("Yes."),
        ],
    ),
    "tools of sharegpt": (
        shared(
            ("human", "Rain?"),
            ("function_call", json.dumps(CALL, indent=1)),
            ("observation", "wet"),
            ("gpt", "Yes."),
            system="Be brief.",
            tools=json.dumps([TOOL]),
        ),
        [
            Turn("system", f"Be brief.\n\n### Tools:\n{json.dumps(TOOL)}"),
            user("Rain?"),
            assistant(CALLED),
            Turn("tool", "wet"),
            assistant("Yes."),
        ],
    ),
    "several calls at once": (
        shared(("human", "Rain?"), ("function_call", json.dumps([CALL, CALL])), tools="[]"),
        [user("Rain?"), assistant(f"{CALLED}\n{CALLED.partition(chr(10))[2]}")],
    ),
    "a call that is no JSON": (
        shared(("human", "Rain?"), ("function_call", "weather()"), tools="weather()"),
        [
            Turn("system", "### Tools:\nweather()"),
            user("Rain?"),
            assistant("### Call:\nweather()"),
        ],
    ),
    "alpaca without instruction": (
        {"instruction": "", "input": "Add 1 and 2.", "output": "3"},
        PLAIN,
    ),
    "an answer that is expected": (
        {"prompt": "Add 1 and 2.", "completion": "3", "label": None},
        PLAIN,
    ),
    "words before a call": (
        {
            "messages": [
                {"role": "user", "content": "Rain?"},
                {"role": "assistant", "content": "I look.", "function_call": CALL},
                {"role": "function", "name": "weather", "content": "wet"},
                {"role": "function", "name": "weather", "content": ""},
                {"role": "assistant", "content": "Yes.", "weight": 1},
            ]
        },
        [
            user("Rain?"),
            assistant(f"I look.\n\n{CALLED}"),
            Turn("tool", "wet"),
            Turn("tool", ""),
            assistant("Yes."),
        ],
    ),
}


@pytest.mark.parametrize("name", READ)
def test_every_part_is_in_its_place(name):
    record, expected = READ[name]
    assert conversations.parse(record) == (expected, ["id"] if name == "ultrachat" else [])


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
REFUSED = {
    "media": [
        messages(("user", [{"type": "text", "text": "a"}, IMAGE]), ("assistant", "b")),
        shared(("human", "<image> a"), ("gpt", "b"), image="a.png"),
        {"instruction": "a", "output": "b", "images": ["a.png"]},
        messages(("user", [{"type": "input_audio", "input_audio": {}}]), ("assistant", "b")),
    ],
    "unknown_part": [
        messages(("user", [{"type": "thinking", "thinking": "a"}]), ("assistant", "b"))
    ],
    "unknown_role": [messages(("narrator", "a"), ("assistant", "b"))],
    "preference_pair": [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "completion": "b", "label": False},
        messages(("user", "a"), ("assistant", "b"), kto_tag=False),
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    ],
    "message_tree": [{"message_id": "1", "parent_id": "0", "text": "a", "role": "prompter"}],
    "untrained_turn": [
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "loss": False},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b", "weight": 0},
            ]
        },
    ],
    "two_inputs": [{"instruction": "a", "input": "b", "context": "c", "output": "d"}],
    "two_systems": [messages(("system", "a"), ("user", "b"), ("assistant", "c"), system="d")],
    "no_turns": [
        messages(("user", "a")),
        messages(("assistant", "a")),
        messages(("user", "a"), ("user", "b"), ("assistant", "c")),
        messages(
            ("user", "a"), ("assistant", "b"), ("system", "c"), ("user", "d"), ("assistant", "e")
        ),
        messages(("user", "a"), ("assistant", " ")),
        messages(("user", "a"), ("tool", "b"), ("assistant", "c")),
        {"messages": []},
        {"instruction": "a", "output": ""},
    ],
    "missing_field": [
        {"text": "### Human: a### Assistant: b"},
        {"instruction": "a"},
        {"output": "a"},
        {"messages": [{"content": "a"}]},
        {"data": [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]},
    ],
    "null_content": [
        {"instruction": "a", "output": None},
        messages(("user", None), ("assistant", "b")),
    ],
    "wrong_type": [
        7,
        [7],
        {"instruction": 7, "output": "b"},
        {"messages": "a"},
        {"messages": ["a", 7]},
        {"instruction": "a", "output": "b", "history": [["c"]]},
        {"instruction": "a", "output": "b", "system": 7},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
    ],
}


@pytest.mark.parametrize("rule", REFUSED)
def test_what_is_not_understood_is_refused_under_a_rule(rule):
    actual = [
        schemas.to_document("instruction", record, "x", 0, 1).rule for record in REFUSED[rule]
    ]
    assert actual == [rule] * len(actual)


def test_fields_that_are_not_read_are_named():
    record = {
        "messages": [
            {"role": "user", "content": "a", "name": "Ann"},
            {"role": "assistant", "content": "b", "reasoning_content": "because", "refusal": None},
        ],
        "prompt": "a",
        "category": "qa",
        "license": "mit",
        "empty": [],
    }
    actual = schemas.to_document("instruction", record, "x", 0, 1)
    assert actual.licence == "mit"
    assert actual.unread_fields == ("prompt", "category", "messages.reasoning_content")


def test_a_conversation_with_tools_as_its_row_has_it():
    turns = [
        ("system", instruction_format.system_content(" Be brief. ", '{"name": "f"}')),
        ("user", "Rain?"),
        (
            "assistant",
            instruction_format.answer_content("I look. \n", ['{"name": "f"}', '{"name": "g"}']),
        ),
        ("tool", "wet\n"),
        ("tool", "cold"),
        ("assistant", "Yes."),
    ]
    assert instruction_format.conversation(turns) == [
        (
            'Be brief.\n\n### Tools:\n{"name": "f"}\n\n### Instruction:\nRain?\n\n### Answer:\n',
            False,
        ),
        ('I look.\n\n### Call:\n{"name": "f"}\n{"name": "g"}\n', True),
        ("### Output:\nwet\n\n### Output:\ncold\n\n### Answer:\n", False),
        ("Yes.\n", True),
    ]


TEXTS = st.text(max_size=9).filter(str.strip)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3), st.text(max_size=5))
def test_conversations_without_tools_are_as_ever(pairs, system):
    """The segments as they were before there were tools: prompts of each instruction, answers."""
    turns, expected = [], []
    for question, answer in pairs:
        turns += [("user", question), ("assistant", answer)]
        expected += [
            (instruction_format.instruction_prompt(question), False),
            (instruction_format.instruction_answer(answer), True),
        ]
    if system.strip():
        turns.insert(0, ("system", system))
        expected[0] = (f"{system.strip()}\n\n{expected[0][0]}", False)
    assert instruction_format.conversation(turns) == expected
