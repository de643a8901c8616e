"""Instruction records, in the formats that people publish them in, as turns.

Alpaca (`instruction`, `input`, `output`, with `system` and `history`), Dolly (`context`,
`response`), pairs under other names (`prompt` and `completion`, `question` and `answer`, ...),
ShareGPT (`conversations` of `from` and `value`), OpenAI's messages with content parts and tool
calls, XTuner's `conversation`, UltraChat's `data`. A record that is not understood is dropped under
a rule of its own; fields that are not read are reported by name, so that they can be counted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from codegen_pax.data.format.documents import Turn
from codegen_pax.text import instruction_format

# The names of fields of a record.
_MESSAGES = ("messages", "conversations", "turns", "conversation", "dialog", "dialogue")
_SYSTEM = ("system", "system_prompt", "system_message", "system_instruction")
_TOOLS = ("tools", "functions")
_INSTRUCTION = ("instruction", "prompt", "question", "query", "problem", "inputs")
_INPUT = ("input", "context")  # that comes with an instruction
_ANSWER = ("output", "response", "completion", "answer", "solution", "targets")
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")
_PREFERENCE = ("chosen", "rejected")
_PREFERENCE_LABEL = ("label", "kto_tag")  # KTO's: false for a bad answer
_MESSAGE_TREE = ("message_tree_id", "parent_id")  # OpenAssistant's: a message, or a tree of them

# The names of fields of a message.
_ROLE = ("role", "from")
_CONTENT = ("content", "value", "text")
_TRAINING_WEIGHT = ("weight", "train", "loss")  # 0 or false: not trained on
_CALL = "call"  # the role of a message that is nothing but a tool call, as in ShareGPT
_ROLES = {
    "ai": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "human": "user",
    "prompter": "user",
    "user": "user",
    "developer": "system",
    "system": "system",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool": "tool",
    "tool_response": "tool",
    "function_call": _CALL,
    "tool_call": _CALL,
}

_EMPTY: tuple[object, ...] = (None, "", [], {}, ())


class RecordError(Exception):
    """A record is not a usable document; the message is the rule that drops it."""


class _Fields:
    """The fields of a record, which remembers those that are read."""

    def __init__(self, record: Mapping[str, Any]):
        self._record = record
        self._read: set[str] = set()

    def first(self, names: Collection[str]) -> str | None:
        """Return the first of some names with a value; if none has one, the first present."""
        present = [name for name in names if name in self._record]
        with_value = (name for name in present if self._record[name] not in _EMPTY)
        return next(with_value, None) or next(iter(present), None)

    def value(self, name: str) -> Any:
        """Return the value of a field, and mark it as read; None if it is missing."""
        self._read.add(name)
        return self._record.get(name)

    def text(self, name: str) -> str:
        """Return a field that must be text.

        Raises:
            RecordError: 'missing_field', 'null_content' or 'wrong_type'.
        """
        if name not in self._record:
            raise RecordError("missing_field")
        return _require_text(self.value(name))

    def has(self, names: Collection[str]) -> bool:
        """Return whether one of some names has a value."""
        return any(self._record.get(name) not in _EMPTY for name in names)

    def unread(self) -> list[str]:
        """Return the names of the fields that have a value and were not read."""
        return [
            str(name)
            for name, value in self._record.items()
            if name not in self._read and value not in _EMPTY
        ]


def parse(record: Mapping[str, Any] | Sequence[Any]) -> tuple[list[Turn], list[str]]:
    """Return the turns of a record, and the names of its fields that were not read.

    Args:
        record: The record as parsed from JSON; a list is a list of messages.

    Raises:
        RecordError: With one of these rules: 'missing_field', 'null_content', 'wrong_type'; 'media'
            (images, sound), 'unknown_part' (of a message's content), 'unknown_role',
            'preference_pair' (or the bad half of one), 'message_tree', 'untrained_turn' (an answer
            that is not to be learnt), 'two_inputs', 'two_systems', 'no_turns' (turns in a wrong
            order, or empty).
    """
    if not isinstance(record, Mapping):
        record = {"messages": record}
    fields = _Fields(record)
    if fields.has(_MEDIA):
        raise RecordError("media")
    if any(record.get(name) is False for name in _PREFERENCE_LABEL):
        raise RecordError("preference_pair")
    turns, unread = _parse_body(record, fields)
    system = "\n\n".join(
        _require_text(fields.value(name)) for name in _SYSTEM if fields.has((name,))
    )
    tools = "\n".join(_parse_tools(fields.value(name)) for name in _TOOLS if fields.has((name,)))
    turns = _add_system(turns, system, tools)
    try:
        instruction_format.conversation([(turn.role, turn.content) for turn in turns])
    except ValueError:
        raise RecordError("no_turns") from None
    return turns, fields.unread() + unread


def _parse_body(record: Mapping[str, Any], fields: _Fields) -> tuple[list[Turn], list[str]]:
    """Return the turns without the record's system message and tools, and the unread fields."""
    pair = [name for name in ("prompt", "completion") if isinstance(record.get(name), list)]
    if pair:  # messages in two fields, the answers in the second
        return _parse_messages([message for name in pair for message in fields.value(name)])
    lists = [name for name in _MESSAGES if isinstance(record.get(name), list)]
    if _is_ultrachat(record.get("data")):
        lists.append("data")
    if name := fields.first(lists):
        return _parse_messages(fields.value(name))
    if not fields.first(_ANSWER):
        if fields.has(_PREFERENCE):
            raise RecordError("preference_pair")
        if fields.has(_MESSAGE_TREE):
            raise RecordError("message_tree")
        if fields.has(_MESSAGES):  # the value is not a list
            raise RecordError("wrong_type")
    history, unread = _parse_history(fields.value("history"))
    return [*history, *_parse_instruction(record, fields)], unread


def _is_ultrachat(value: object) -> bool:
    """Return whether `data` holds alternating turns; many files wrap their records in `data`."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _parse_instruction(record: Mapping[str, Any], fields: _Fields) -> list[Turn]:
    """Return one instruction and its answer as turns."""
    inputs = [name for name in _INPUT if record.get(name) not in _EMPTY]
    if len(inputs) > 1:
        raise RecordError("two_inputs")
    default = _INSTRUCTION[0]
    instruction = default if default in record and inputs else fields.first(_INSTRUCTION)
    if inputs and (instruction is None or _is_blank(record[instruction])):
        instruction, inputs = inputs[0], []  # there is only an input
    content = instruction_format.user_content(
        fields.text(instruction or default), fields.text(inputs[0]) if inputs else ""
    )
    answer = fields.text(fields.first(_ANSWER) or _ANSWER[0])
    return [Turn("user", content), Turn("assistant", answer)]


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _parse_history(value: Any) -> tuple[list[Turn], list[str]]:
    """Return the earlier turns, given as pairs of instruction and answer or as messages."""
    if value in _EMPTY:
        return [], []
    if not isinstance(value, list):
        raise RecordError("wrong_type")
    if all(isinstance(one, Mapping) for one in value):
        return _parse_messages(value)
    turns = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise RecordError("wrong_type")
        instruction, answer = map(_require_text, pair)
        turns += [Turn("user", instruction), Turn("assistant", answer)]
    return turns, []


def _parse_messages(messages: object) -> tuple[list[Turn], list[str]]:
    if not isinstance(messages, list):
        raise RecordError("wrong_type")
    if messages and all(isinstance(one, str) for one in messages):
        roles = ("user", "assistant")
        return [Turn(roles[n % 2], text) for n, text in enumerate(messages)], []
    turns: list[Turn] = []
    unread: set[str] = set()
    for message in messages:
        if not isinstance(message, Mapping):
            raise RecordError("wrong_type")
        fields = _Fields(message)
        if fields.has(_MEDIA):
            raise RecordError("media")
        if not any(name in message for name in _ROLE) and fields.first(_ANSWER):
            if fields.has(("system",)):
                turns.append(Turn("system", fields.text("system")))
            turns += _parse_instruction(message, fields)
        elif turn := _parse_message(message, fields):
            turns.append(turn)
        unread.update(f"messages.{name}" for name in fields.unread())
    return turns, sorted(unread)


def _parse_message(message: Mapping[str, Any], fields: _Fields) -> Turn | None:
    """Return a message as a turn; None for an empty system message."""
    speaker = fields.text("role" if "role" in message else "from")
    role = _ROLES.get(speaker.strip().lower())
    if role is None:
        raise RecordError("unknown_role")
    calls = _parse_calls(fields)
    content = _parse_content(message, fields, is_optional=bool(calls))
    for name in ("id", "tool_call_id", "name"):  # redundant: messages are in order
        fields.value(name)
    is_trained = 0 not in [fields.value(name) for name in _TRAINING_WEIGHT]  # False equals 0
    if role in ("assistant", _CALL) and not is_trained:
        raise RecordError("untrained_turn")
    if role == "system" and not content.strip():
        return None
    if role == _CALL:
        role, content, calls = "assistant", "", _content_as_calls(content)
    return Turn(role, instruction_format.answer_content(content, calls) if calls else content)


def _parse_content(message: Mapping[str, Any], fields: _Fields, is_optional: bool) -> str:
    """Return the text of a message."""
    name = next((name for name in _CONTENT if name in message), _CONTENT[0])
    if is_optional and message.get(name) is None:
        fields.value(name)
        return ""
    if isinstance(message.get(name), list):
        return _join_parts(fields.value(name))
    return fields.text(name)


def _parse_calls(fields: _Fields) -> list[str]:
    """Return the tool calls of a message, each as a line of JSON."""
    single = fields.value("function_call")
    several = fields.value("tool_calls") or []
    if not isinstance(several, list):
        raise RecordError("wrong_type")
    return [_format_call(one) for one in [*([] if single in _EMPTY else [single]), *several]]


def _format_call(call: object) -> str:
    call = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise RecordError("wrong_type")
    arguments = call.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _parse_json(arguments)  # remains text if it is not JSON
    return _json({"name": call["name"], "arguments": arguments})


def _content_as_calls(content: str) -> list[str]:
    """Return calls in the content of a message as lines of JSON; other content unchanged."""
    value = _parse_json(content)
    calls = value if isinstance(value, list) else [value]
    try:
        return [_format_call(call) for call in calls] or [content]
    except RecordError:
        return [content]


def _parse_json(text: str) -> object:
    """Return the value of a text as JSON; the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _join_parts(parts: list[Any]) -> str:
    """Return the text of the parts of a message, each on lines of its own."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, Mapping):
            raise RecordError("wrong_type")
        kind = part.get("type", "text" if "text" in part else "")
        if kind in ("text", "input_text", "output_text"):
            texts.append(_require_text(part.get("text")))
        elif any(word in str(kind) for word in ("image", "audio", "video", "file")):
            raise RecordError("media")
        else:
            raise RecordError("unknown_part")
    return "\n".join(texts)


def _parse_tools(value: object) -> str:
    """Return the descriptions of tools, each as a line of JSON."""
    if isinstance(value, str):
        parsed = _parse_json(value)
        if not isinstance(parsed, list):
            return value.strip()
        value = parsed
    if not isinstance(value, list):
        raise RecordError("wrong_type")
    return "\n".join(one if isinstance(one, str) else _json(one) for one in value)


def _add_system(turns: list[Turn], system: str, tools: str) -> list[Turn]:
    """Return the turns, preceded by the record's system message with its tools."""
    first = turns[0].content if turns and turns[0].role == "system" else ""
    if first and system and first.strip() != system.strip():
        raise RecordError("two_systems")
    rest = turns[1:] if first else turns
    if tools:
        return [Turn("system", instruction_format.system_content(first or system, tools)), *rest]
    return [Turn("system", first or system), *rest] if first or system.strip() else rest


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        raise RecordError("null_content" if value is None else "wrong_type")
    return value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
