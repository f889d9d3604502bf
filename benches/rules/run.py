#!/usr/bin/env python3
"""How long the rules take for many instances and models, on this machine.

    benches/rules/run.py --instances 100 --models 20 --minutes 15 --history-days 3 [--prometheus prometheus]

Serves a page for each instance, as the exporter writes it (all that alerts and rules read), lets its own Prometheus scrape them with
the committed rules, and prints what Prometheus itself says about each group: its interval, and the longest that it took in the last ten minutes. The
longest windows are sums over recorded series, whose number does not depend on the instances: `--history-days` writes so many days of them beforehand.
Everything is on 127.0.0.1, in a temporary folder. It ends with 1 where a group took longer than its interval, or left out an evaluation.
"""
import argparse, http.server, json, pathlib, re, shutil, subprocess, sys, tempfile, threading, time, urllib.parse, urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "examples/monitoring/rules"
FIRST_TOKEN = "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.15 0.2 0.25 0.3 0.4 0.5 0.75 1 1.5 2 2.5 3 4 5 7.5 10 15 20 30 40 60 80 120 160 320 640".split()
PER_TOKEN = "0.001 0.0025 0.005 0.0075 0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 10 20".split()
DURATION = "0.01 0.025 0.05 0.1 0.15 0.2 0.25 0.3 0.4 0.5 0.75 1 1.5 2 3 4 5 6 8 10 15 20 30 40 60 80 120 180 300 450 600 900 1800".split()
GAP = "0.05 0.1 0.25 0.5 1 2.5 5 10 30 60 120".split()


def page(models):
    """A page whose counters are `@` times something; `@` is replaced by the seconds since the start."""
    lines = []

    def histogram(name, labels, bounds):
        for index, bound in enumerate(bounds):
            share = (index + 1) / len(bounds)
            lines.append((f'{name}_bucket{{{labels},le="{bound}"}}', share))
        lines.append((f'{name}_bucket{{{labels},le="+Inf"}}', 1))
        lines.append((f"{name}_count{{{labels}}}", 1))
        lines.append((f"{name}_sum{{{labels}}}", 3))

    for n in range(models):
        model = f'model="qwen3-{n}"'
        chat = f'{model},operation="chat"'
        for stream in ("true", "false"):
            for thinking in ("true", "false", "unknown"):
                for outcome in ("success", "rejected", "error", "cancelled"):
                    labels = f'{chat},endpoint="/v1/chat/completions",stream="{stream}",thinking="{thinking}",outcome="{outcome}"'
                    lines.append((f"llm_requests_total{{{labels}}}", 0.02 if outcome == "error" else 1))
            for source in ("upstream", "engine", "estimated", "missing"):
                lines.append((f'llm_usage_reports_total{{{model},stream="{stream}",source="{source}"}}', 0.01 if source == "missing" else 1))
        histogram("llm_time_to_first_token_seconds", chat, FIRST_TOKEN)
        histogram("llm_inter_token_latency_seconds", chat, PER_TOKEN)
        histogram("llm_stream_max_gap_seconds", chat, GAP)
        histogram("llm_time_per_output_token_seconds", f'{chat},thinking="true"', PER_TOKEN)
        histogram("llm_request_queue_seconds", model, FIRST_TOKEN)
        for thinking in ("true", "false"):
            histogram("llm_request_duration_seconds", f'{chat},thinking="{thinking}",outcome="success"', DURATION)
        histogram("llm_request_duration_seconds", f'{chat},thinking="false",outcome="error"', DURATION)
        for token in ("input", "output"):
            lines.append((f"llm_{token}_tokens_total{{{chat}}}", 100))
        for reason in "stop length tool_calls content_filter refusal repetition pause abort error missing other".split():
            lines.append((f'llm_finish_reasons_total{{{chat},finish_reason="{reason}"}}', 1))
        for result in "valid invalid_json schema_mismatch truncated fenced unchecked".split():
            lines.append((f'llm_structured_outputs_total{{{model},format="json_object",result="{result}"}}', 1))
        for result in "valid invalid_json unknown_tool incomplete".split():
            lines.append((f'llm_tool_calls_total{{{model},result="{result}"}}', 1))
        lines.append((f"llm_outputs_total{{{chat}}}", 1))
        for kind in "cycle line token".split():
            lines.append((f'llm_output_repetition_total{{{model},kind="{kind}"}}', 0.001))
        for kind in "no_content no_answer blank".split():
            lines.append((f'llm_output_empty_total{{{model},kind="{kind}"}}', 0.001))
        for kind in "special_token_leak broken_characters unclosed_reasoning".split():
            lines.append((f'llm_output_anomalies_total{{{model},kind="{kind}"}}', 0.001))
        for result in ("met", "missed"):
            lines.append((f'llm_slo_requests_total{{slo="chat",{model},result="{result}"}}', 1))
        lines.append((f'llm_model_info{{{model},engine="e",engine_version="1",quantization="q",context_length="1"}}', 0))
        for gauge in ("requests_running", "requests_waiting", "kv_cache_usage_ratio"):
            lines.append((f"llm_engine_{gauge}{{{model}}}", 0))
    for phase in ("waiting", "streaming"):
        lines.append((f'llm_requests_in_flight{{operation="chat",phase="{phase}"}}', 0))
    lines.append(('llm_metrics_build_info{version="1"}', 0))
    for label in ("model", "endpoint"):
        lines.append((f'llm_metrics_label_overflow_total{{label="{label}"}}', 0))
    for result in "answered refused reset timeout cancelled".split():
        lines.append((f'llm_gateway_attempts_total{{upstream="a",result="{result}"}}', 10 if result == "answered" else 0.01))
    for kind in ("requests", "tokens"):
        lines.append((f'llm_gateway_quota_remaining_ratio{{upstream="a",kind="{kind}"}}', 0))
    lines.append(('llm_gateway_upstream_up{upstream="a"}', 0))
    lines.append(("process_start_time_seconds", 0))
    for gpu in (f'gpu="{n}",gpu_uuid="GPU-INSTANCE-{n}"' for n in range(8)):
        for name in ("gpu_up", "gpu_memory_used_bytes", "gpu_memory_total_bytes", "gpu_recovery_action"):
            lines.append((f"{name}{{{gpu}}}", 0))
        for reason in "gpu_idle sw_power_cap hw_slowdown hw_thermal_slowdown hw_power_brake sw_thermal_slowdown sync_boost".split():
            lines.append((f'gpu_clock_event_active{{{gpu},reason="{reason}"}}', 0))
        for sensor in ("gpu", "memory"):
            lines.append((f'gpu_temperature_celsius{{{gpu},sensor="{sensor}"}}', 0))
        for kind in ("slowdown", "shutdown", "memory_max", "gpu_max"):
            lines.append((f'gpu_temperature_limit_celsius{{{gpu},kind="{kind}"}}', 0))
        for severity in ("corrected", "uncorrected"):
            for counter in ("volatile", "aggregate"):
                lines.append((f'gpu_ecc_errors_total{{{gpu},severity="{severity}",counter="{counter}"}}', 0))
        for xid in (48, 63, 74, 79, 94, 95, 119, 120):
            lines.append((f'gpu_xid_last_timestamp_seconds{{{gpu},xid="{xid}"}}', 0))
        lines.append((f"gpu_energy_joules_total{{{gpu}}}", 300))
    for state in ("found", "missing", "denied"):
        lines.append((f'gpu_devices{{state="{state}"}}', 0))
    lines.append(("gpu_collector_last_success_timestamp_seconds", 0))
    return lines


def expressions():
    """What the rules read, without the texts in it."""
    for path in sorted(RULES.glob("*.rules.yml")) + sorted(RULES.glob("*.alerts.yml")):
        text = re.sub(r"(?m)^ *(annotations|description|summary|runbook\w*|- record|- alert):.*$", "", path.read_text())
        yield re.sub(r'"[^"\n]*"', '""', text)


def not_on(lines):
    """Metrics that a rule reads and that no line of the page is of."""
    there = {re.match(r"\w+", series).group() for series, _ in lines} | {"gpu_uuid"}
    read = {name for text in expressions() for name in re.findall(r"(?<![:\w])((?:llm|gpu|process)_\w+)", text)}
    return sorted(read - there)


def render(lines, seconds):
    return "".join(f"{series} {1 if by == 0 else seconds * by:.3f}\n" for series, by in lines)


class Pages(http.server.BaseHTTPRequestHandler):
    text, made, lock, lines, start = "", -1.0, threading.Lock(), [], 0.0

    def do_GET(self):
        with Pages.lock:
            second = int(time.time() - Pages.start)
            if second != Pages.made:
                Pages.text, Pages.made = render(Pages.lines, second), second
            text = Pages.text
        body = text.replace("GPU-INSTANCE", self.path.rsplit("/", 1)[-1]).encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def read_over_time():
    """The recorded series that rules look back at, with the labels in their names."""
    names = {name for text in expressions() for name in re.findall(r"((?:\w+:)+\w+)(?:\{[^}]*\})?(?:\[| offset)", text)}
    for name in sorted(names):
        level = name.split(":")[0].split("_")
        if level[0] == "job":
            yield name, "outcome" in level, "model" in level, "slo" in level


def history(folder, models, days):
    """What rules look back at, every 30 s, as blocks of Prometheus."""
    now = int(time.time()) - 3 * 3600
    series = []
    for name, by_outcome, by_model, by_slo in read_over_time():
        outcomes = [f',outcome="{outcome}"' for outcome in ("success", "error", "rejected", "cancelled")] if by_outcome else [""]
        of_models = [f',model="qwen3-{n}"' for n in range(models)] if by_model else [""]
        labels = [f'{{job="llm"{model}{outcome}' + (',slo="chat"}' if by_slo else "}") for outcome in outcomes for model in of_models]
        series.append((name, labels))
    # A day at a time: promtool reads the whole file once for every two hours.
    for day in range(days, 0, -1):
        text = folder / "history.txt"
        times = range(now - day * 86400, now - (day - 1) * 86400, 30)
        with text.open("w") as out:
            for name, labels in series:
                out.write(f"# TYPE {name} gauge\n")
                for of in labels:
                    out.writelines(f"{name}{of} {1 + at * 7919 % 1009 / 1009:.6f} {at}\n" for at in times)
            out.write("# EOF\n")
        subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "data")], check=True, stdout=subprocess.DEVNULL)
        text.unlink()
    return sum(len(labels) for _, labels in series)


def query(address, expr):
    with urllib.request.urlopen(f"{address}/api/v1/query?query={urllib.parse.quote(expr)}", timeout=60) as answer:
        return json.load(answer)["data"]["result"]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--instances", type=int, default=100)
    options.add_argument("--models", type=int, default=20)
    options.add_argument("--minutes", type=float, default=15)
    options.add_argument("--scrape-seconds", type=int, default=15)
    options.add_argument("--history-days", type=int, default=0)
    options.add_argument("--prometheus", default="prometheus")
    options = options.parse_args()
    Pages.lines, Pages.start = page(options.models), time.time() - 3600
    if missing := not_on(Pages.lines):
        sys.exit(f"rules read metrics that are not on the page: {', '.join(missing)}")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rules-bench-"))
    prometheus = None
    try:
        if options.history_days:
            count = history(folder, options.models, options.history_days)
            print(f"{options.history_days} days of {count} recorded series are there beforehand")
        host = f"127.0.0.1:{server.server_address[1]}"
        targets = [{"targets": [host], "labels": {"instance": f"llm-{n}", "__metrics_path__": f"/{n}"}} for n in range(options.instances)]
        (folder / "targets.json").write_text(json.dumps(targets))
        port = 19090
        config = {"global": {"scrape_interval": f"{options.scrape_seconds}s", "evaluation_interval": "15s"},
                  "rule_files": [str(RULES / "*.rules.yml"), str(RULES / "*.alerts.yml")],
                  "scrape_configs": [{"job_name": "llm", "file_sd_configs": [{"files": ["targets.json"]}]},
                                     {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}
        (folder / "prometheus.yml").write_text(json.dumps(config))
        log = (folder / "log").open("w")
        prometheus = subprocess.Popen([options.prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"],
                                      cwd=folder, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        time.sleep(options.minutes * 60)
        groups = json.load(urllib.request.urlopen(f"{address}/api/v1/rules", timeout=60))["data"]["groups"]
        by_group = lambda expr: {value["metric"]["rule_group"].rsplit(";", 1)[-1]: float(value["value"][1]) for value in query(address, expr)}
        longest = by_group("max_over_time(prometheus_rule_group_last_duration_seconds[10m])")
        left_out = by_group("prometheus_rule_group_iterations_missed_total")
        samples = sum(float(value["value"][1]) for value in query(address, 'sum(scrape_samples_scraped{job="llm"})'))
        slowest = max(float(value["value"][1]) for value in query(address, 'max(max_over_time(scrape_duration_seconds{job="llm"}[10m]))'))
        print(f"{options.instances} instances x {options.models} models: {samples:.0f} series, scraped every {options.scrape_seconds} s (the slowest scrape took {slowest:.1f} s)")
        print("| group | rules | interval | took at most | of its interval |\n| --- | ---: | ---: | ---: | ---: |")
        late = False
        for group in sorted(groups, key=lambda group: -longest[group["name"]] / group["interval"]):
            took, interval = longest[group["name"]], group["interval"]
            print(f"| {group['name']} | {len(group['rules'])} | {interval:.0f} s | {took * 1000:.0f} ms | {took / interval:.1%} |")
            late |= took > interval or left_out[group["name"]] > 0
            for rule in group["rules"]:
                if rule.get("lastError"):
                    print("  error:", rule["name"], rule["lastError"])
        sum_of_shares = sum(longest[group["name"]] / group["interval"] for group in groups)
        print(f"all together: {sum_of_shares:.1%} of one processor's time at most; {sum(left_out.values()):.0f} evaluations were left out")
        sys.exit(1 if late else 0)
    finally:
        if prometheus:
            prometheus.terminate()
            prometheus.wait()
        server.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
