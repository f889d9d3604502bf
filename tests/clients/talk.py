"""Talks to a server with the official clients of OpenAI, Anthropic and Ollama, and prints what each of them saw, a JSON object a line.

    talk.py BASE_URL MODEL
"""

import json
import sys

import anthropic
import ollama
import openai

base, model = sys.argv[1:]
messages = [{"role": "user", "content": "Hello"}]
greedy = {"temperature": 0}
gpt = openai.OpenAI(base_url=f"{base}/v1", api_key="-", max_retries=0)
claude = anthropic.Anthropic(base_url=base, api_key="-", max_retries=0)
llama = ollama.Client(host=base)


def saw(endpoint, stream, **what):
    print(json.dumps({"endpoint": endpoint, "stream": stream, **what}), flush=True)


def chat(stream):
    asked = {"stream_options": {"include_usage": True}} if stream else {}
    answer = gpt.chat.completions.create(model=model, messages=messages, temperature=0, stream=stream, **asked)
    chunks = list(answer) if stream else [answer]
    usage = chunks[-1].usage
    choices = [choice for chunk in chunks for choice in chunk.choices]
    text = "".join((choice.delta if stream else choice.message).content or "" for choice in choices)
    saw("/v1/chat/completions", stream, text=text, input=usage.prompt_tokens, output=usage.completion_tokens,
        reasoning=usage.completion_tokens_details.reasoning_tokens, finish=choices[-1].finish_reason)


def completions(stream):
    asked = {"stream_options": {"include_usage": True}} if stream else {}
    answer = gpt.completions.create(model=model, prompt="Each token", temperature=0, max_tokens=5, stream=stream, **asked)
    chunks = list(answer) if stream else [answer]
    usage = chunks[-1].usage
    choices = [choice for chunk in chunks for choice in chunk.choices]
    saw("/v1/completions", stream, text="".join(choice.text for choice in choices), input=usage.prompt_tokens,
        output=usage.completion_tokens, reasoning=0, finish=choices[-1].finish_reason)


def responses(stream, limit):
    asked = {"model": model, "input": "Hello", "extra_body": greedy}
    if limit:
        asked["max_output_tokens"] = limit
    answer = gpt.responses.create(**asked, stream=stream)
    if stream:
        events = list(answer)
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        answer = events[-1].response
        assert text == answer.output_text, (text, answer.output_text)
    usage = answer.usage
    finish = {"completed": "stop", "incomplete": "length"}[answer.status]
    saw("/v1/responses", stream, text=answer.output_text, input=usage.input_tokens, output=usage.output_tokens,
        reasoning=usage.output_tokens_details.reasoning_tokens, finish=finish)


def anthropic_messages(stream, limit, thinking):
    asked = {"model": model, "max_tokens": limit, "messages": messages, "extra_body": greedy}
    if thinking:
        asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    if stream:
        with claude.messages.stream(**asked) as events:
            text = "".join(events.text_stream)
            answer = events.get_final_message()
    else:
        answer = claude.messages.create(**asked)
        text = "".join(block.text for block in answer.content if block.type == "text")
    finish = {"end_turn": "stop", "max_tokens": "length"}[answer.stop_reason]
    saw("/v1/messages", stream, text=text, input=answer.usage.input_tokens, output=answer.usage.output_tokens,
        finish=finish)


def ollama_chat(stream, limit):
    options = {**greedy, "num_predict": limit}
    answer = llama.chat(model=model, messages=messages, options=options, stream=stream)
    lines = list(answer) if stream else [answer]
    text = "".join(line.message.content or "" for line in lines)
    last = lines[-1]
    saw("/api/chat", stream, text=text, input=last.prompt_eval_count, output=last.eval_count, finish=last.done_reason)


def ollama_generate(stream):
    answer = llama.generate(model=model, prompt="Each token", raw=True, options={**greedy, "num_predict": 5}, stream=stream)
    lines = list(answer) if stream else [answer]
    last = lines[-1]
    saw("/api/generate", stream, text="".join(line.response for line in lines), input=last.prompt_eval_count,
        output=last.eval_count, finish=last.done_reason)


for stream in (False, True):
    chat(stream)
    completions(stream)
    for limit in (None, 16):
        responses(stream, limit)
    for limit, thinking in ((100, False), (100, True), (3, False)):
        anthropic_messages(stream, limit, thinking)
    for limit in (-1, 3):
        ollama_chat(stream, limit)
    ollama_generate(stream)

# What each of them makes of a refusal.
for endpoint, ask, refusal in (
    ("/v1/chat/completions", lambda: gpt.chat.completions.create(model="nope", messages=messages), openai.NotFoundError),
    ("/v1/responses", lambda: gpt.responses.create(model="nope", input="Hello"), openai.NotFoundError),
    ("/v1/messages", lambda: claude.messages.create(model="nope", max_tokens=1, messages=messages), anthropic.NotFoundError),
    ("/api/chat", lambda: llama.chat(model="nope", messages=messages), ollama.ResponseError),
):
    try:
        ask()
    except refusal as error:
        saw(endpoint, False, refused=error.status_code)

# Requests without generation: counting, listing, loading.
claude.messages.count_tokens(model=model, messages=messages)
assert [listed.id for listed in gpt.models.list()] == [model]
assert [listed.model for listed in llama.list().models] == [model]
assert llama.show(model).capabilities
assert [running.model for running in llama.ps().models] == [model]
