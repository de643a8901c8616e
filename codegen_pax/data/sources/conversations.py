"""Instruction records in the formats that people publish them in, as turns.

Alpaca (`instruction`, `input`, `output`, with `system` and `history`), Dolly (`context`,
`response`), pairs by other names (`prompt` and `completion`, `question` and `answer`, ...),
ShareGPT (`conversations` of `from` and `value`), OpenAI's messages with parts and tool calls,
XTuner's `conversation`, UltraChat's `data`. What is not understood is refused under a rule of its
own; fields that are not read are named, so that they can be counted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from codegen_pax.data.format.documents import Turn
from codegen_pax.text import instruction_format

_MESSAGES = ("messages", "conversations", "turns", "conversation", "dialog", "dialogue")
_SYSTEM = ("system", "system_prompt", "system_message", "system_instruction")
_TOOLS = ("tools", "functions")
_ASKED = ("instruction", "prompt", "question", "query", "problem", "inputs")
_GIVEN = ("input", "context")
_ANSWERED = ("output", "response", "completion", "answer", "solution", "targets")
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")
_PREFERENCE = ("chosen", "rejected")
_TRAINED = ("weight", "train", "loss")  # of a message: 0 or false if it is not to be learnt
_WANTED = ("label", "kto_tag")  # of a record, as KTO has it: false if its answer is a bad one
_TREE = ("message_tree_id", "parent_id")  # OpenAssistant's: one message, or all of a tree

_ROLE, _CONTENT = ("role", "from"), ("content", "value", "text")
_CALL = "call"  # a message that is nothing but a call, as ShareGPT has it
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


class NotUnderstoodError(Exception):
    """A record is no conversation that can be trained on; the message is the rule that says so."""


class _Fields:
    """The fields of a record, and which of them were read."""

    def __init__(self, record: Mapping[str, Any]):
        self._record = record
        self._read: set[str] = set()

    def first(self, names: Collection[str]) -> str | None:
        """The first of some names that has a value; where none has, the first that is there."""
        there = [name for name in names if name in self._record]
        return next((name for name in there if self._record[name] not in _EMPTY), None) or next(
            iter(there), None
        )

    def value(self, name: str | None) -> Any:
        self._read.add(name or "")
        return self._record.get(name)

    def text(self, name: str) -> str:
        """A field that must be text.

        Raises NotUnderstoodError: 'missing_field', 'null_content', 'wrong_type'.
        """
        if name not in self._record:
            raise NotUnderstoodError("missing_field")
        value = self.value(name)
        if value is None:
            raise NotUnderstoodError("null_content")
        return _checked(value)

    def has(self, names: Collection[str]) -> bool:
        """Whether one of some names has a value."""
        return any(self._record.get(name) not in _EMPTY for name in names)

    def unread(self) -> list[str]:
        """The names of the fields that have a value and were not read."""
        return [
            str(name)
            for name, value in self._record.items()
            if name not in self._read and value not in _EMPTY
        ]


_EMPTY = (None, "", [], {}, ())


def turns(record: Mapping[str, Any] | Sequence[Any]) -> tuple[list[Turn], list[str]]:
    """The turns of a record, and the names of its fields that were not read.

    Args:
      record: as JSON gave it; a list is that of its messages.

    Raises NotUnderstoodError with one of these rules: 'missing_field', 'null_content',
      'wrong_type'; 'media' (pictures, sound), 'unknown_part' (of a message's content),
      'unknown_role', 'preference_pair' (or the bad half of one), 'message_tree', 'untrained_turn'
      (an answer that is not to be learnt), 'two_inputs', 'two_systems', 'no_turns' (their order, or
      an empty one).
    """
    if not isinstance(record, Mapping):
        record = {"messages": record}
    fields = _Fields(record)
    if fields.has(_MEDIA):
        raise NotUnderstoodError("media")
    if any(record.get(name) is False for name in _WANTED):
        raise NotUnderstoodError("preference_pair")
    found, unread = _spoken(record, fields)
    system = "\n\n".join(_optional(fields, name) for name in _SYSTEM if fields.has((name,)))
    tools = "\n".join(_tools(fields.value(name)) for name in _TOOLS if fields.has((name,)))
    found = _with_system(found, system, tools)
    try:
        instruction_format.conversation([(turn.role, turn.content) for turn in found])
    except ValueError:
        raise NotUnderstoodError("no_turns") from None
    return found, fields.unread() + unread


def _spoken(record: Mapping[str, Any], fields: _Fields) -> tuple[list[Turn], list[str]]:
    """What a record holds besides its system message and tools, and what of it was not read."""
    both = [name for name in ("prompt", "completion") if isinstance(record.get(name), list)]
    if both:  # messages in two fields, the answers apart
        return _messages([message for name in both for message in fields.value(name)])
    listed = [name for name in _MESSAGES if isinstance(record.get(name), list)]
    if _is_ultrachat(record.get("data")):
        listed.append("data")
    if name := fields.first(listed):
        return _messages(fields.value(name))
    if not fields.first(_ANSWERED):
        if fields.has(_PREFERENCE):
            raise NotUnderstoodError("preference_pair")
        if fields.has(_TREE):
            raise NotUnderstoodError("message_tree")
        if fields.has(_MESSAGES):  # of a kind that is none of messages
            raise NotUnderstoodError("wrong_type")
    history, unread = _history(fields.value("history"))
    return [*history, *_pair(record, fields)], unread


def _is_ultrachat(value: object) -> bool:
    """Whether a field holds what is said by turns, not records, which many files wrap in `data`."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _pair(record: Mapping[str, Any], fields: _Fields) -> list[Turn]:
    """One instruction and its answer."""
    given = [name for name in _GIVEN if record.get(name) not in _EMPTY]
    if len(given) > 1:
        raise NotUnderstoodError("two_inputs")
    asked = _ASKED[0] if _ASKED[0] in record and given else fields.first(_ASKED)
    if given and (asked is None or _is_blank(record[asked])):  # what is given is all that is asked
        asked, given = given[0], []
    content = instruction_format.user_content(
        fields.text(asked or _ASKED[0]), fields.text(given[0]) if given else ""
    )
    answer = fields.text(fields.first(_ANSWERED) or _ANSWERED[0])
    return [Turn("user", content), Turn("assistant", answer)]


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _history(value: object) -> tuple[list[Turn], list[str]]:
    """Earlier turns: pairs of what was asked and answered, or messages."""
    if value in _EMPTY:
        return [], []
    if not isinstance(value, list):
        raise NotUnderstoodError("wrong_type")
    if all(isinstance(one, Mapping) for one in value):
        return _messages(value)
    found = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise NotUnderstoodError("wrong_type")
        found += [Turn("user", _checked(pair[0])), Turn("assistant", _checked(pair[1]))]
    return found, []


def _messages(messages: object) -> tuple[list[Turn], list[str]]:
    if not isinstance(messages, list):
        raise NotUnderstoodError("wrong_type")
    if messages and all(isinstance(one, str) for one in messages):
        roles = ("user", "assistant")
        return [Turn(roles[n % 2], text) for n, text in enumerate(messages)], []
    found: list[Turn] = []
    unread: set[str] = set()
    for message in messages:
        if not isinstance(message, Mapping):
            raise NotUnderstoodError("wrong_type")
        fields = _Fields(message)
        if fields.has(_MEDIA):
            raise NotUnderstoodError("media")
        if not any(name in message for name in _ROLE) and fields.first(_ANSWERED):
            if fields.has(("system",)):
                found.append(Turn("system", fields.text("system")))
            found += _pair(message, fields)
        elif turn := _message(message, fields):
            found.append(turn)
        unread.update(f"messages.{name}" for name in fields.unread())
    return found, sorted(unread)


def _message(message: Mapping[str, Any], fields: _Fields) -> Turn | None:
    """A message as a turn; None for a system message that says nothing."""
    speaker = fields.text("role" if "role" in message else "from")
    role = _ROLES.get(speaker.strip().lower())
    if role is None:
        raise NotUnderstoodError("unknown_role")
    calls = _calls(fields)
    name = next((name for name in _CONTENT if name in message), _CONTENT[0])
    if calls and message.get(name) is None:
        content = ""
        fields.value(name)
    elif isinstance(message.get(name), list):
        content = _parts(fields.value(name))
    else:
        content = fields.text(name)
    for name in ("id", "tool_call_id", "name"):  # the order says what they say
        fields.value(name)
    is_trained = 0 not in [fields.value(name) for name in _TRAINED]  # `False` is 0 too
    if role in ("assistant", _CALL) and not is_trained:
        raise NotUnderstoodError("untrained_turn")
    if role == "system" and not content.strip():
        return None
    if role == _CALL:
        role, content, calls = "assistant", "", _called(content)
    return Turn(role, instruction_format.answer_content(content, calls) if calls else content)


def _calls(fields: _Fields) -> list[str]:
    """The calls of a message, each as a line of JSON."""
    single = fields.value("function_call")
    several = fields.value("tool_calls")
    if not isinstance(several or [], list):
        raise NotUnderstoodError("wrong_type")
    return [_call(one) for one in [*([] if single in _EMPTY else [single]), *(several or [])]]


def _call(call: object) -> str:
    call = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise NotUnderstoodError("wrong_type")
    arguments = call.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _parsed(arguments)  # or as the model wrote them
    return _json({"name": call["name"], "arguments": arguments})


def _called(content: str) -> list[str]:
    """The calls that a message is, as lines of JSON; what is none is a line as it stands."""
    found = _parsed(content)
    several = found if isinstance(found, list) else [found]
    try:
        return [_call(one) for one in several] or [content]
    except NotUnderstoodError:
        return [content]


def _parsed(text: str) -> object:
    """What a text is as JSON; the text itself if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _parts(parts: list[Any]) -> str:
    """The text of a message's parts, each on lines of its own."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, Mapping):
            raise NotUnderstoodError("wrong_type")
        kind = part.get("type", "text" if "text" in part else "")
        if kind in ("text", "input_text", "output_text"):
            texts.append(_checked(part.get("text")))
        elif any(word in str(kind) for word in ("image", "audio", "video", "file")):
            raise NotUnderstoodError("media")
        else:
            raise NotUnderstoodError("unknown_part")
    return "\n".join(texts)


def _tools(value: object) -> str:
    """Descriptions of tools, each as a line of JSON."""
    if isinstance(value, str):
        found = _parsed(value)
        if not isinstance(found, list):
            return value.strip()
        value = found
    if not isinstance(value, list):
        raise NotUnderstoodError("wrong_type")
    return "\n".join(one if isinstance(one, str) else _json(one) for one in value)


def _with_system(found: list[Turn], system: str, tools: str) -> list[Turn]:
    """The turns behind the system message of the record as a whole, and its tools."""
    own = found[0].content if found and found[0].role == "system" else ""
    if own and system and own.strip() != system.strip():
        raise NotUnderstoodError("two_systems")
    rest = found[1:] if own else found
    if not tools:
        return [Turn("system", own or system), *rest] if own or system.strip() else rest
    return [Turn("system", instruction_format.system_content(own or system, tools)), *rest]


def _optional(fields: _Fields, name: str) -> str:
    return _checked(fields.value(name))


def _checked(value: object) -> str:
    if not isinstance(value, str):
        raise NotUnderstoodError("null_content" if value is None else "wrong_type")
    return value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
