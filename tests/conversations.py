"""Conversations and answers that hypothesis makes up, in the plainest form every schema can hold."""

from __future__ import annotations

import json

import msgspec
from hypothesis import strategies as st

from model_gateway.domain.conversation import (
    Answer,
    Conversation,
    FinishReason,
    Media,
    Part,
    Reasoning,
    ResponseFormat,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from model_gateway.domain.usage import Usage

_characters = st.characters(exclude_categories=("Cs",))
texts = st.text(_characters, min_size=1, max_size=40).filter(lambda text: bool(text.strip()))
names = st.from_regex(r"[a-z][a-z_]{0,15}", fullmatch=True)
ids = st.from_regex(r"call_[A-Za-z0-9]{1,12}", fullmatch=True)
objects = st.dictionaries(
    names, st.none() | st.booleans() | st.integers(-(2**40), 2**40) | texts | st.lists(texts, max_size=2), max_size=3
)
arguments = objects.map(json.dumps)
base64 = st.sampled_from(["", "iVBORw0KGgo=", "JVBERi0xLjQK"]).filter(bool)

images = st.builds(Media, st.just("image"), mime=st.sampled_from(["image/png", "image/jpeg"]), data=base64) | st.builds(
    Media, st.just("image"), url=st.just("https://example.org/cat.png")
)
documents = st.builds(Media, st.just("file"), mime=st.just("application/pdf"), data=base64, name=names)
plain = st.builds(Text, texts)
results = st.builds(
    ToolResult,
    ids,
    st.lists(plain | images, max_size=2).map(tuple),
    is_error=st.booleans(),
)
calls = st.builds(ToolUse, ids, names, arguments)
thoughts = st.builds(Reasoning, texts, signature=texts) | st.builds(Reasoning, st.just(""), redacted=texts)

user_turns = st.tuples(st.lists(results, max_size=2), st.lists(plain | images | documents, min_size=1, max_size=2)).map(
    lambda found: Turn("user", tuple[Part, ...]([*found[0], *found[1]]))
)
assistant_turns = st.tuples(
    st.lists(thoughts, max_size=1), st.lists(plain, min_size=1, max_size=1), st.lists(calls, max_size=2)
).map(lambda found: Turn("assistant", tuple[Part, ...]([*found[0], *found[1], *found[2]])))
system_turns = plain.map(lambda text: Turn("system", (text,)))


@st.composite
def turns(draw: st.DrawFn) -> tuple[Turn, ...]:
    """Perhaps a system turn, then user and assistant in turns."""
    found = draw(st.lists(system_turns, max_size=1))
    for _ in range(draw(st.integers(1, 3))):
        found += [draw(user_turns), draw(assistant_turns)]
    return tuple(found)


tools = st.builds(
    Tool,
    names,
    description=st.just("") | texts,
    parameters=objects.map(lambda schema: msgspec.Raw(msgspec.json.encode({"type": "object", "properties": schema}))),
    strict=st.none() | st.booleans(),
)
choices = st.sampled_from([ToolChoice("auto"), ToolChoice("required")]) | st.builds(ToolChoice, st.just("named"), names)
ends: st.SearchStrategy[FinishReason] = st.sampled_from(("stop", "length"))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """What both OpenAI's and Anthropic's schema can say, but for thoughts and a tool's error mark."""
    asked = tuple(draw(st.lists(tools, max_size=2)))
    schema = ResponseFormat("schema", schema=msgspec.Raw(b'{"type":"object"}'), strict=True)
    return Conversation(
        turns=draw(turns()),
        tools=asked,
        tool_choice=draw(choices) if asked else None,
        parallel_tool_calls=draw(st.none() | st.booleans()) if asked else None,
        response_format=draw(st.none() | st.just(schema)),
        max_tokens=draw(st.integers(2000, 60_000)),
        temperature=draw(st.none() | st.floats(0, 1)),
        top_p=draw(st.none() | st.floats(0, 1)),
        stop=tuple(draw(st.lists(texts, max_size=2))),
        user=draw(st.just("") | texts),
    )


@st.composite
def dialogues(draw: st.DrawFn) -> Conversation:
    """What every schema can say, for comparing them: each result answers a call, and turns hold one text each."""
    asked = tuple(draw(st.lists(tools, min_size=1, max_size=2)))
    found = draw(st.lists(system_turns, max_size=1))
    found.append(Turn("user", (*draw(st.lists(images, max_size=1)), draw(plain))))
    for at in range(draw(st.integers(0, 2))):
        made = [
            ToolUse(f"call_{at}{n}", asked[0].name, text)
            for n, text in enumerate(draw(st.lists(arguments, max_size=2)))
        ]
        found.append(Turn("assistant", (draw(plain), *made)))
        answered = [ToolResult(call.id, (draw(plain), *draw(st.lists(images, max_size=1))), call.name) for call in made]
        found.append(Turn("user", (*answered, draw(plain))))
    schema = ResponseFormat("schema", "answer", msgspec.Raw(b'{"type":"object","properties":{}}'), strict=True)
    mode = draw(st.sampled_from((None, ToolChoice("auto"), ToolChoice("required"), ToolChoice("named", asked[0].name))))
    return Conversation(
        turns=tuple(found),
        tools=asked,
        tool_choice=mode,
        response_format=draw(st.none() | st.just(schema)),
        max_tokens=draw(st.integers(2000, 60_000)),
        temperature=draw(st.none() | st.floats(0, 1)),
        top_p=draw(st.none() | st.floats(0, 1)),
    )


usages = st.builds(
    Usage,
    input_tokens=st.integers(500, 10_000),
    output_tokens=st.integers(500, 10_000),
    cached_input_tokens=st.integers(0, 500),
    reasoning_tokens=st.integers(0, 500),
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    said = draw(assistant_turns).parts
    called = any(isinstance(part, ToolUse) for part in said)
    parts = tuple(part for part in said if isinstance(part, Text | ToolUse | Reasoning))
    reason: FinishReason = "tool_calls" if called else draw(ends)
    return Answer(parts=parts, finish_reason=reason, usage=draw(usages))
