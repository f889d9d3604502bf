"""Measures what docs/comparison.md says about OpenLLMetry and OpenLIT: what their metrics and spans are when a stream breaks.

    python3 -m venv target/instrumented
    target/instrumented/bin/pip install -r tests/clients/instrumented.txt
    target/instrumented/bin/python tests/clients/instrumented.py

Each of them instruments OpenAI's client in a separate process, since they replace the same functions. Nothing leaves the machine: the server is in the
process, and metrics and spans stay in memory. It prints what was recorded for each stream, and fails if the page is not right.
"""

import gc
import http.server
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time

# Each is the name of a model, which decides what the server does after two events with text.
COMPLETE, BREAKS, ERROR, NO_END, LEAVES = STREAMS = ["complete", "breaks", "error event", "no end", "client leaves"]


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        model = json.loads(self.rfile.read(int(self.headers["content-length"])))["model"]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self.answer(model)
            self.chunk("")
        except OSError:  # the client has left
            self.close_connection = True

    def answer(self, model):
        def event(delta, finish_reason=None):
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            self.data(json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}))

        event({"role": "assistant", "content": "Yes."})
        event({"content": " No."})
        if model == COMPLETE:
            event({}, "stop")
            self.data("[DONE]")
        elif model == ERROR:
            self.data('{"error": {"message": "out of memory", "type": "server_error"}}')
            self.data("[DONE]")
        elif model == BREAKS:
            time.sleep(0.05)  # what came before it is read
            self.connection.shutdown(socket.SHUT_RDWR)
            raise OSError
        while model == LEAVES:
            time.sleep(0.05)
            self.chunk(": \n\n")

    def data(self, text):
        self.chunk(f"data: {text}\n\n")

    def chunk(self, text):
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def log_message(self, *_):
        pass


def ask(client, model):
    """Reads a stream; returns the exception that it raised, if any."""
    stream = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}], stream=True)
    read = 0
    try:
        for _ in stream:
            read += 1
            if model == LEAVES and read == 2:
                stream.close()
                break
    except Exception as error:
        return type(error).__name__
    finally:
        del stream
        gc.collect()  # one of them records what was not recorded when a stream is collected


def measure(tool):
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    reader, spans, tracing = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracing)
    if tool == "openllmetry":
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument()
    else:
        import openlit

        with tempfile.NamedTemporaryFile("w", suffix=".json") as prices:  # which it would get from GitHub
            prices.write("{}")
            prices.flush()
            openlit.init(disable_batch=True, disable_events=True, pricing_json=prices.name)
    import openai

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="-", max_retries=0)
    seen = {model: {"raised": ask(client, model), "metrics": {}, "spans": []} for model in STREAMS}

    for resource in reader.get_metrics_data().resource_metrics:
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            for point in metric.data.data_points:
                attributes = dict(point.attributes)
                model = attributes.get("gen_ai.request.model") or attributes.get("gen_ai.response.model")
                if model in seen:
                    told = [attributes[name] for name in ("error.type", "gen_ai.token.type") if name in attributes]
                    name = " ".join([metric.name, *told])
                    count = point.count if hasattr(point, "count") else point.value
                    seen[model]["metrics"][name] = seen[model]["metrics"].get(name, 0) + count
    for span in spans.get_finished_spans():
        model = span.attributes.get("gen_ai.request.model")
        if model in seen:
            seen[model]["spans"].append(span.status.status_code.name)
    return seen


def check_openllmetry(seen):
    usual = {"gen_ai.client.operation.duration", "gen_ai.client.generation.choices", "gen_ai.server.time_to_first_token"}
    generating = "llm.chat_completions.streaming_time_to_generate"
    for model in STREAMS:
        # No tokens, no `error.type`, no exception; the time to generate only if the iterator came to its end.
        ended = model in (COMPLETE, NO_END)
        assert set(seen[model]["metrics"]) == (usual | {generating} if ended else usual), (model, seen[model])
        assert seen[model]["spans"] == ["OK"], (model, seen[model])


def check_openlit(seen):
    for model in (BREAKS, ERROR, LEAVES):
        assert seen[model]["metrics"] == {}, (model, seen[model])
    assert seen[NO_END]["metrics"].keys() == seen[COMPLETE]["metrics"].keys(), seen
    # Its own counts of tokens: the answers have no usage.
    assert {"gen_ai.client.token.usage input", "gen_ai.client.token.usage output"} <= seen[COMPLETE]["metrics"].keys(), seen


if len(sys.argv) > 1:
    print(json.dumps(measure(sys.argv[1])))
else:
    for tool, check in {"openllmetry": check_openllmetry, "openlit": check_openlit}.items():
        program = subprocess.run([sys.executable, __file__, tool], stdout=subprocess.PIPE, timeout=120, check=True)
        seen = json.loads(program.stdout.splitlines()[-1])
        for model, what in seen.items():
            print(f"{tool}: {model}: {json.dumps(what)}")
        for model, raises in zip(STREAMS, [False, True, True, False, False]):
            assert bool(seen[model]["raised"]) == raises, (model, seen[model])
        check(seen)
    print("as docs/comparison.md says")
