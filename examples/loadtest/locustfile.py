"""Locust against a server that speaks OpenAI's API: streams, timed token by token, with checks and steps of load.

    pip install locust
    locust -f locustfile.py --headless --host http://127.0.0.1:8080

Settings are environment variables:

    MODEL        the requested model; without it, the first one that the server lists
    THINKING     on, off, or both (every other request); without it, the server's default
    MAX_TOKENS   the limit on each answer (128)
    STEPS        users and seconds of each step: 1x60,2x60,4x60,8x60; without it, Locust's own -u, -r and -t
    STRICT_JSON  1: an answer that is not JSON, although JSON was requested, is a failed request; without it, it is counted separately

In addition to Locust's own figures (which end with the *head* of a stream), the script measures:

    first token         time to the first event with text or reasoning
    first answer token  time to the first event with text
    per token           time from the first token to the last, per token after the first
    whole answer        time to the end of the stream

Each user sends its next request when it has its answer. This closed loop slows down with the server, and hides the queue that real
callers would cause. See the README.
"""

import itertools
import json
import os
import pathlib
import random
import time

from locust import HttpUser, LoadTestShape, constant, events, task

PROMPTS = json.loads((pathlib.Path(__file__).parent / "prompts.json").read_text())
THINKING = os.environ.get("THINKING", "")
MAX_TOKENS = int(os.environ.get("MAX_TOKENS", "128"))
STRICT_JSON = os.environ.get("STRICT_JSON") == "1"
STEPS = [tuple(int(number) for number in step.split("x")) for step in os.environ.get("STEPS", "").split(",") if step]

if THINKING not in ("", "on", "off", "both"):
    raise SystemExit(f"THINKING is {THINKING!r}: give on, off or both")


class Failed(Exception):
    """Why a request did not get its answer."""


def measured(name, seconds, exception=None):
    """Adds a row to Locust's statistics."""
    events.request.fire(
        request_type="stream", name=name, response_time=seconds * 1000, response_length=0, exception=exception, context={}
    )


def events_of(response):
    """The data of each event, as it comes: with a chunk size of 1 nothing waits for more to come."""
    for line in response.iter_lines(chunk_size=1):
        if line.startswith(b"data:"):
            yield line[5:].strip()


class Caller(HttpUser):
    wait_time = constant(0)
    numbers = itertools.count()
    model = os.environ.get("MODEL", "")

    def on_start(self):
        if not Caller.model:
            with self.client.get("/v1/models", name="models", catch_response=True) as response:
                Caller.model = response.json()["data"][0]["id"]

    @task
    def chat(self):
        prompt = random.choice(PROMPTS)
        thinking = {"on": True, "off": False, "both": next(self.numbers) % 2 == 0}.get(THINKING)
        # Unique words at the beginning. Otherwise the prefix cache would answer.
        text = f"[{random.getrandbits(32):08x}] {prompt['prompt']}"
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": thinking}
        started = time.perf_counter()
        with self.client.post("/v1/chat/completions", json=body, stream=True, catch_response=True, name="chat") as response:
            try:
                if response.status_code != 200:
                    raise Failed(f"status {response.status_code}")
                self.read(response, started, prompt, thinking)
                response.success()
            except Failed as error:
                response.failure(str(error))
            except Exception as error:  # a connection that breaks off, garbage instead of JSON
                response.failure(f"{type(error).__name__} while reading the stream")

    def read(self, response, started, prompt, thinking):
        first = answer = last = None
        answered, tokens, complete = "", 0, False
        for data in events_of(response):
            now = time.perf_counter()
            if data == b"[DONE]":
                complete = True
                continue
            event = json.loads(data)
            if event.get("error"):
                raise Failed("an error inside the stream")
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
            for choice in event.get("choices", []):
                delta = choice.get("delta", {})
                said = delta.get("content") or ""
                if said or delta.get("reasoning_content") or delta.get("reasoning"):
                    first = first or now
                    last = now
                if said.strip():
                    answer = answer or now
                answered += said
                if choice.get("finish_reason"):
                    # It arrives with the last token.
                    complete, last = True, now if first else None
        if not complete:
            raise Failed("the stream ended before the answer did")

        mode = {True: ", thinking", False: ", not thinking", None: ""}[thinking]
        if first:
            measured(f"first token{mode}", first - started)
        if answer:
            measured(f"first answer token{mode}", answer - started)
        if first and tokens > 1 and last > first:
            measured(f"per token{mode}", (last - first) / (tokens - 1))
        measured(f"whole answer{mode}", time.perf_counter() - started)
        if prompt.get("json"):
            self.check_json(answered)

    def check_json(self, answered):
        try:
            json.loads(answered.split("</think>")[-1])
        except ValueError:
            if STRICT_JSON:
                raise Failed("no JSON, where JSON was asked for") from None
            measured("invalid JSON", 0)
        else:
            measured("JSON", 0)


if STEPS:

    class Steps(LoadTestShape):
        """A number of users for a number of seconds, one step after the other."""

        def tick(self):
            left = self.get_run_time()
            for users, seconds in STEPS:
                if left < seconds:
                    return users, users
                left -= seconds
            return None
