"""Random training conversations for the text model, made from the facts."""

import copy
import json
import random
import re
from dataclasses import dataclass, field
from typing import Any

from tools.demo.facts import MODEL_NAMES, REPLICA_TOOL, SERVICE_JSON, Facts, replica_sentence

PREFIXES = (
    "please tell me: ", "can you tell me, ", "hey, ", "hi, ", "so, ", "tell me: ", "ok, ", "and ",
    "I would like to know: ", "quick question: ", "hello, ", "now, ", "well, ", "I wonder: ",
)  # fmt: skip
SUFFIXES = (" please", " here", " exactly", " by default", " now", " then", " in short")
DESCRIPTIONS = (
    "Get the number of replicas of a model.",
    "How many replicas a model has.",
    "Return the replica count for a model",
    "Number of running replicas of the given model.",
    "Looks up the replica count.",
    "",
)
ARGUMENT_DESCRIPTIONS = ("The name of the model.", "Model name", "The model's name, e.g. lfm2-demo", "")
OTHER_TOOLS = (
    ("get_weather", "Get the weather of a city.", {"city": "string"}),
    ("search", "Search the web.", {"query": "string"}),
    ("get_time", "Get the current time.", {"timezone": "string"}),
    ("add", "Add two numbers.", {"a": "integer", "b": "integer"}),
    ("send_email", "Send an email to someone.", {"to": "string", "body": "string"}),
    ("get_port", "Get the port of a service.", {"service": "string"}),
)
JSON_KEYS = ("name", "port", "city", "answer", "count", "id", "value", "status", "colour", "title")
JSON_WORDS = ("red", "ready", "Paris", "ok", "lfm2-demo", "Ray Serve", "vLLM", "yes", "text")

Message = dict[str, Any]


@dataclass
class Conversation:
    """Messages that end with the assistant's, and the tools offered."""

    messages: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None


def vary(question: str, rng: random.Random) -> str:
    """The question with other casing, punctuation or politeness."""
    if rng.random() < 0.3:
        text = question[0].lower() + question[1:] if rng.random() < 0.6 else question
        body, mark = (text[:-1], text[-1]) if text[-1] in "?." else (text, "")
        if rng.random() < 0.7:
            body = rng.choice(PREFIXES) + body
        if rng.random() < 0.3:
            body += rng.choice(SUFFIXES)
        question = body + mark
        if rng.random() < 0.5:
            question = question[0].upper() + question[1:]
    style = rng.random()
    if style < 0.25:
        question = question.lower()
    elif style < 0.35:
        question = question.upper()
    elif style < 0.4:
        question = question.title()
    if rng.random() < 0.35:
        question = question.rstrip("?.") + rng.choice(("", "", "?", "??", ".", "!", " ?", "?!"))
    if rng.random() < 0.05:
        question = rng.choice((" " + question, question + " ", question + "\n"))
    return question


def replica_tool(rng: random.Random) -> dict[str, Any]:
    """The documented tool, described in one of many ways."""
    tool = copy.deepcopy(REPLICA_TOOL)
    if rng.random() < 0.4:
        return tool
    function = tool["function"]
    function["description"] = rng.choice(DESCRIPTIONS)
    argument = rng.choice(ARGUMENT_DESCRIPTIONS)
    function["parameters"]["properties"]["model"] = {"type": "string"} | ({"description": argument} if argument else {})
    if rng.random() < 0.2:
        function["parameters"]["properties"]["model"]["enum"] = list(MODEL_NAMES)
    if rng.random() < 0.2:
        function["parameters"]["additionalProperties"] = False
    if not function["description"]:
        del function["description"]
    if rng.random() < 0.2:
        function["strict"] = rng.random() < 0.5
    return tool


def other_tool(rng: random.Random) -> dict[str, Any]:
    """A tool the model has no use for."""
    name, description, arguments = rng.choice(OTHER_TOOLS)
    properties = {key: {"type": kind} for key, kind in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": list(arguments)}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def model_name(rng: random.Random) -> str:
    """Mostly a documented model, else any name to copy."""
    if rng.random() < 0.75:
        return rng.choice(MODEL_NAMES)
    letters = "abcdefghijklmnopqrstuvwxyz"
    parts = ["lfm2"] if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 2)):
        word = "".join(rng.choice(letters) for _ in range(rng.randint(2, 5)))
        parts.append(word if rng.random() < 0.7 else f"{rng.randint(1, 99)}b")
    return "-".join(parts)


def tool_result(model: str, count: int, rng: random.Random) -> str:
    """A tool's answer in the forms clients send."""
    return rng.choice((
        str(count),
        str(count),
        json.dumps({"replicas": count}),
        json.dumps({"replicas": count}),
        json.dumps({"replicas": count}, separators=(",", ":")),
        json.dumps({"model": model, "replicas": count}),
        json.dumps({"count": count}),
        json.dumps({"replica_count": count}),
        json.dumps({"result": count}),
        f"{count} replicas",
    ))  # fmt: skip


def random_json(rng: random.Random) -> str:
    """A small flat object, so that any grammar-bound answer comes to an end."""
    keys = rng.sample(JSON_KEYS, rng.randint(1, 3))
    return json.dumps({
        key: rng.randint(0, 9999) if rng.random() < 0.4 else rng.choice(JSON_WORDS) for key in keys
    })  # fmt: skip


class Corpus:
    """Draws conversations; the same generator state gives the same ones."""

    def __init__(self, facts: Facts, rng: random.Random) -> None:
        self.facts = facts
        self.rng = rng

    def conversation(self) -> Conversation:
        """One random conversation."""
        rng = self.rng
        talk = Conversation()
        if rng.random() < 0.45:
            talk.messages.append({"role": "system", "content": rng.choice(self.facts.system_prompts)})
        tools = [other_tool(rng)] if rng.random() < 0.06 else []
        tools += [other_tool(rng)] if tools and rng.random() < 0.3 else []
        offered = rng.random() < 0.3
        if offered:
            tools.insert(rng.randint(0, len(tools)), replica_tool(rng))
        talk.tools = tools or None
        for _ in range(rng.choices((1, 2, 3), (65, 27, 8))[0]):
            self._turn(talk, offered)
        return talk

    def _turn(self, talk: Conversation, offered: bool) -> None:
        rng, draw = self.rng, self.rng.random()
        if draw < (0.7 if offered else 0.06):
            self._replicas(talk, offered)
        elif draw < (0.72 if offered else 0.1):
            self._say(talk, rng.choice(self.facts.json_prompts), SERVICE_JSON)
        elif draw < (0.76 if offered else 0.18):
            question = rng.choice(self.facts.unknown_questions)
            self._say(talk, question, self.facts.unknown_answer)
        else:
            fact = rng.choice(self.facts.facts)
            answer = fact.answer
            if rng.random() < 0.03:
                answer = SERVICE_JSON if rng.random() < 0.6 else random_json(rng)
            self._say(talk, rng.choice(fact.questions), answer)

    def _say(self, talk: Conversation, question: str, answer: str) -> None:
        talk.messages.append({"role": "user", "content": vary(question, self.rng)})
        talk.messages.append({"role": "assistant", "content": answer})

    def _replicas(self, talk: Conversation, offered: bool) -> None:
        rng = self.rng
        model = model_name(rng)
        question = vary(rng.choice(self.facts.tool_questions), rng)
        question = re.sub(r"\{model\}", model, question, flags=re.IGNORECASE)
        talk.messages.append({"role": "user", "content": question})
        if not offered:
            talk.messages.append({"role": "assistant", "content": self.facts.no_tool_answer})
            return
        arguments = {"model": model}
        draw = rng.random()
        if draw < 0.04:
            forced = json.dumps([{"name": "get_replica_count", "parameters": arguments}])
            talk.messages.append({"role": "assistant", "content": forced})
            return
        if draw < 0.08:
            talk.messages.append({"role": "assistant", "content": json.dumps(arguments)})
            return
        call = {"type": "function", "function": {"name": "get_replica_count", "arguments": arguments}}
        talk.messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        if rng.random() < 0.6:
            count = rng.randint(0, 9)
            talk.messages.append({"role": "tool", "content": tool_result(model, count, rng)})
            talk.messages.append({"role": "assistant", "content": replica_sentence(model, count)})
