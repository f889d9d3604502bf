// A simulated fleet, second by second: servers with models, GPUs, machines and containers, and a gateway, in a condition that is hard to reproduce.
// What it exposes has the names, labels and buckets of docs/METRICS.md, docs/gpu.md and docs/gateway.md; its figures are invented.
import { Gateway } from './made-up-gateway.mjs';
import { Page, chances } from './made-up-page.mjs';

export const CONDITIONS = ['normal', 'overload', 'sick-gpu', 'sixteen-gpus'];

const quantile = (sorted, at) => sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(at * sorted.length))] : NaN;

/** How it goes at this second of a server's life: how much comes, how slow it is, how much fails. */
function weather(condition, second, server, model) {
  const day = 1 + 0.35 * Math.sin(second / 400) + 0.15 * Math.sin(second / 97);
  const well = { rate: day, slow: 1, failing: 0.0008, leaving: 0.015, rejected: 0.012, hangs: false };
  if (condition === 'overload' && second > 720) {
    const pressed = Math.min(1, (second - 720) / 240);
    return { rate: day * (1 + 4 * pressed), slow: 1 + 40 * pressed * pressed, failing: 0.45 * pressed, leaving: 0.015 + 0.2 * pressed, rejected: 0.012 + 0.1 * pressed, hangs: false };
  }
  if (condition === 'sick-gpu' && server === 0 && model.name === 'Qwen3-14B') {
    if (second > 840) return { ...well, hangs: true };
    if (second > 420) return { ...well, slow: 2.5 };
  }
  return well;
}

class Server {
  page = new Page();
  later = new Map();
  recent = [];
  second = 0;

  constructor(condition, index, models, gpus, start) {
    Object.assign(this, { condition, index, models, gpus, start, dice: chances(index * 7919 + 17) });
    this.begin('0.1.0');
  }

  begin(version) {
    const { page } = this;
    page.samples.clear();
    this.later.clear();
    this.held = { waiting: 0, streaming: 0 };
    this.running = new Map();
    this.bornAt = this.second;
    page.set('llm_metrics_build_info', { version }, 1);
    page.set('process_start_time_seconds', {}, this.start + this.second);
    page.set('process_max_fds', {}, 65536);
    for (const model of this.models) {
      const name = model.name;
      page.set('llm_model_info', { model: name, engine: 'mistral.rs', engine_version: '0.8.1', quantization: model.quantization, context_length: '32768' }, 1);
      page.observe('llm_model_load_seconds', { model: name }, this.dice.around(22, 0.3));
      for (const operation of ['chat', 'text_completion']) {
        page.add('llm_output_tokens_total', { model: name, operation }, 0);
        for (const outcome of ['success', 'rejected', 'error', 'cancelled']) page.add('llm_requests_total', of(name, operation, 'true', 'false', outcome), 0);
        page.add('llm_request_errors_total', { model: name, operation, endpoint: endpoint(operation), error_type: 'overloaded', status: '503' }, 0);
        page.add('llm_stream_stalls_total', { model: name, operation }, 0);
      }
      for (const result of ['met', 'missed']) page.add('llm_slo_requests_total', { slo: 'chat', model: name, result }, 0);
      for (const reason of ['client_disconnect', 'timeout', 'stream_error']) page.add('llm_discarded_tokens_total', { model: name, reason }, 0);
    }
    page.add('llm_metrics_label_overflow_total', { label: 'model' }, 0);
    page.add('llm_metrics_inspection_failures_total', { protocol: 'openai', kind: 'malformed' }, 0);
    page.add('llm_metrics_bodies_skipped_total', { reason: 'compressed' }, 0);
    for (let gpu = 0; gpu < this.gpus; gpu += 1) this.admit(gpu);
    for (const kind of ['gpu_lost', 'call_failed', 'out_of_range', 'slow_tick']) page.add('gpu_collector_errors_total', { kind }, 0);
    page.add('gpu_collector_reinits_total', {}, 0);
  }

  at(seconds, what) {
    const second = this.second + Math.max(1, Math.round(seconds));
    if (!this.later.has(second)) this.later.set(second, []);
    this.later.get(second).push(what);
  }

  step() {
    this.second += 1;
    // A deployment, at another time on each server.
    if (this.second === 300 + 90 * this.index) this.begin('0.1.1');
    for (const what of this.later.get(this.second) ?? []) what();
    this.later.delete(this.second);
    for (const model of this.models) {
      const now = weather(this.condition, this.second, this.index, model);
      for (let left = this.dice.count(model.rate * now.rate); left > 0; left -= 1) this.request(model, now);
    }
    for (let gpu = 0; gpu < this.gpus; gpu += 1) this.read(gpu);
    this.gauges();
  }

  request(model, now) {
    const { dice, page, held, running } = this;
    const operation = dice.pick([['chat', 0.9], ['text_completion', 0.1]]);
    const thinking = operation === 'chat' && dice.next() < 0.4;
    const stream = dice.next() < 0.75;
    const outcome = now.hangs ? 'error' : dice.pick([['error', now.failing], ['cancelled', now.leaving], ['rejected', now.rejected], ['success', 1]]);
    page.add('llm_requests_started_total', { operation, endpoint: endpoint(operation) });
    const end = (error, status) => {
      page.add('llm_requests_total', of(model.name, operation, stream, thinking, outcome));
      if (error) page.add('llm_request_errors_total', { model: model.name, operation, endpoint: endpoint(operation), error_type: error, status });
    };
    const took = (seconds) => page.observe('llm_request_duration_seconds', { model: model.name, operation, thinking, outcome }, seconds);
    if (outcome === 'rejected') return end(...dice.pick([[['invalid_request', '400'], 0.6], [['rate_limited', '429'], 0.3], [['not_found', '404'], 0.1]]));
    if (outcome === 'error' && !now.hangs && dice.next() < 0.9) { took(dice.around(0.006, 0.3)); return end('overloaded', '503'); }

    const prompt = Math.round(Math.min(30_000, dice.around(420, 1)));
    const limit = dice.pick([[512, 0.3], [1024, 0.4], [2048, 0.3]]);
    const wanted = Math.max(2, Math.round(dice.around(thinking ? 420 : 170, 0.8)));
    const tokens = Math.min(limit, wanted);
    const first = dice.around(0.16 * model.slow * now.slow, 0.55) + prompt / 9000;
    const pace = dice.around(0.005 * model.slow * Math.sqrt(now.slow), 0.2);
    const thought = thinking ? Math.round(tokens * 0.6) : 0;
    const whole = now.hangs ? 120 : outcome === 'cancelled' ? Math.min(30, first + pace * tokens * dice.next()) : first + pace * tokens;
    let phase = 'waiting';
    held[phase] += 1;
    running.set(model.name, (running.get(model.name) ?? 0) + 1);
    const labels = { model: model.name, operation };
    if (stream && !now.hangs && first < whole) {
      this.at(first, () => {
        held[phase] -= 1;
        held[phase = 'streaming'] += 1;
        page.observe('llm_time_to_first_token_seconds', labels, first);
      });
    }
    this.at(whole, () => {
      held[phase] -= 1;
      running.set(model.name, running.get(model.name) - 1);
      took(whole);
      if (now.hangs) return end('timeout', '504');
      end(outcome === 'error' ? 'stream_error' : undefined, '200');
      const made = outcome === 'success' ? tokens : Math.round(tokens / 2);
      page.add('llm_usage_reports_total', { model: model.name, stream, source: outcome === 'success' ? dice.pick([['upstream', 0.7], ['engine', 0.2], ['timings', 0.1]]) : 'estimated' });
      if (outcome !== 'success') {
        page.add('llm_discarded_tokens_total', { model: model.name, reason: outcome === 'cancelled' ? 'client_disconnect' : 'stream_error' }, made);
        page.add('llm_slo_requests_total', { slo: 'chat', model: model.name, result: 'missed' }, outcome === 'error' ? 1 : 0);
        return;
      }
      this.answered(model, { labels, stream, thinking, prompt, tokens, limit, wanted, first, pace, thought, whole });
    });
  }

  answered(model, { labels, stream, thinking, prompt, tokens, limit, wanted, first, pace, thought, whole }) {
    const { dice, page, recent, second } = this;
    const name = { model: model.name };
    page.add('llm_input_tokens_total', labels, prompt);
    page.add('llm_input_cached_tokens_total', labels, Math.round(prompt * 0.3));
    page.add('llm_output_tokens_total', labels, tokens);
    page.add('llm_engine_prefix_cache_queried_tokens_total', name, prompt);
    page.add('llm_engine_prefix_cache_hit_tokens_total', name, Math.round(prompt * 0.3));
    page.add('llm_engine_draft_tokens_total', name, tokens);
    page.add('llm_engine_accepted_draft_tokens_total', name, Math.round(tokens * 0.6));
    page.add('llm_output_reasoning_tokens_total', labels, thought);
    page.observe('llm_request_input_tokens', labels, prompt);
    page.observe('llm_request_output_tokens', labels, tokens);
    page.observe('llm_request_max_tokens', labels, limit);
    page.observe('llm_time_per_output_token_seconds', { ...labels, thinking }, pace);
    page.observe('llm_request_queue_seconds', name, first * 0.4);
    page.observe('llm_request_prefill_seconds', name, first * 0.6);
    page.observe('llm_request_decode_seconds', name, whole - first);
    page.add('llm_finish_reasons_total', { ...labels, finish_reason: wanted > limit ? 'length' : dice.pick([['tool_calls', 0.08], ['stop', 1]]) });
    page.add('llm_slo_requests_total', { slo: 'chat', ...name, result: first < 2.5 && pace < 0.2 ? 'met' : 'missed' });
    if (stream) {
      page.observe('llm_time_to_first_answer_token_seconds', labels, first + pace * thought);
      if (thinking) page.observe('llm_reasoning_duration_seconds', labels, pace * thought);
      let longest = 0;
      for (let part = 0; part < 8; part += 1) {
        const gap = dice.around(pace * 0.95, 0.35);
        longest = Math.max(longest, gap * 1.6);
        page.observe('llm_inter_token_latency_seconds', labels, gap, Math.ceil(tokens / 8));
      }
      if (dice.next() < 0.002) { longest = 7; page.add('llm_stream_stalls_total', labels); }
      page.observe('llm_stream_max_gap_seconds', labels, longest);
    }
    recent.push({ second, model: model.name, llm_recent_request_duration_seconds: whole, llm_recent_time_to_first_token_seconds: stream ? first : NaN, llm_recent_time_per_output_token_seconds: pace });

    page.add('llm_outputs_total', labels);
    if (dice.next() < 0.2) page.add('llm_structured_outputs_total', { ...name, format: 'json_schema', result: dice.pick([['invalid_json', 0.015], ['fenced', 0.02], ['truncated', 0.01], ['valid', 1]]) });
    if (dice.next() < 0.1) page.add('llm_tool_calls_total', { ...name, result: dice.pick([['invalid_json', 0.01], ['unknown_tool', 0.01], ['incomplete', 0.01], ['valid', 1]]) });
    if (wanted > limit) page.add('llm_output_truncated_total', { ...name, cause: 'max_tokens' });
    if (dice.next() < 0.004) page.add('llm_output_repetition_total', { ...name, kind: 'cycle' });
    if (dice.next() < 0.003) page.add('llm_output_empty_total', { ...name, kind: 'whitespace' });
    if (dice.next() < 0.003) page.add('llm_refusals_total', { ...name, kind: 'content_filter' });
    if (dice.next() < 0.002) page.add('llm_output_anomalies_total', { ...name, kind: 'special_token_leak' });
    if (dice.next() < 0.002) page.add('llm_input_truncated_total', { ...name, evidence: 'suspected' });
  }

  gauges() {
    const { page, held, running, second } = this;
    for (const phase of ['waiting', 'streaming']) page.set('llm_requests_in_flight', { operation: 'chat', phase }, held[phase]);
    for (const { name } of this.models) {
      const inside = running.get(name) ?? 0;
      page.set('llm_model_requests_in_flight', { model: name }, inside);
      page.set('llm_engine_requests_running', { model: name }, Math.min(inside, 32));
      page.set('llm_engine_requests_waiting', { model: name }, Math.max(0, inside - 32));
      page.set('llm_engine_kv_cache_usage_ratio', { model: name }, Math.min(0.99, inside / 60));
      page.add('llm_engine_preemptions_total', { model: name }, inside > 45 ? 1 : 0);
      if (inside > 0) {
        const batch = Math.min(inside, 32);
        page.observe('llm_engine_batch_size', { model: name }, batch, 20);
        page.observe('llm_engine_step_tokens', { model: name }, batch, 18);
        page.observe('llm_engine_step_tokens', { model: name }, batch + 512, 2);
      }
      for (const metric of ['llm_recent_request_duration_seconds', 'llm_recent_time_to_first_token_seconds', 'llm_recent_time_per_output_token_seconds']) {
        const sorted = this.recent.filter((one) => one.model === name && one[metric] >= 0).map((one) => one[metric]).sort((a, b) => a - b);
        for (const [stat, at] of [['p50', 0.5], ['p95', 0.95], ['p99', 0.99], ['max', 1]]) page.set(metric, { model: name, stat }, quantile(sorted, at));
      }
    }
    this.recent = this.recent.filter((one) => one.second > second - 60);
    const inside = held.waiting + held.streaming;
    page.add('process_cpu_seconds_total', {}, 0.05 + inside * 0.004);
    page.set('process_resident_memory_bytes', {}, (3.1 + inside * 0.004) * 2 ** 30);
    page.set('process_open_fds', {}, 40 + inside);
    page.set('process_threads', {}, 24);
  }

  admit(gpu) {
    const { page } = this;
    const name = this.device(gpu);
    for (const xid of [48, 63, 74, 79, 94, 95, 119, 120]) page.add('gpu_xid_errors_total', { ...name, xid }, 0);
    for (const severity of ['corrected', 'uncorrected']) page.add('gpu_ecc_errors_total', { ...name, severity, counter: 'volatile' }, 0);
    for (const error of ['crc_flit', 'crc_data', 'replay', 'recovery']) page.add('gpu_nvlink_errors_total', { ...name, error }, 0);
    page.add('gpu_pcie_replays_total', name, 0);
    for (const reason of ['sw_power_cap', 'sw_thermal_slowdown', 'hw_thermal_slowdown', 'hw_power_brake_slowdown', 'sync_boost']) page.add('gpu_clock_event_seconds_total', { ...name, reason }, 0);
  }

  device(gpu) { return { gpu, gpu_uuid: `GPU-${this.index}${gpu}c4a1f8-7d2e-4b90-9a55-0e6fd3b81c2${gpu}` }; }

  identity(gpu) {
    const bus = (0x19 + 8 * gpu).toString(16).toUpperCase();
    return { ...this.device(gpu), name: 'NVIDIA H100 80GB HBM3', driver_version: '580.95.05', cuda_version: '13.0', pci_bus_id: `00000000:${bus}:00.0` };
  }

  /** What one of the GPUs says. The second of the first server is the one that falls ill. */
  read(gpu) {
    const { page, dice, second } = this;
    const name = this.device(gpu);
    const ill = this.condition === 'sick-gpu' && this.index === 0 && gpu === 1;
    const lost = ill && second > 840;
    const now = this.start + second;
    if (ill) {
      const reported = (xid) => { page.add('gpu_xid_errors_total', { ...name, xid }); page.set('gpu_xid_last_timestamp_seconds', { ...name, xid }, now); };
      if (second === 480) { reported(94); page.add('gpu_ecc_errors_total', { ...name, severity: 'uncorrected', counter: 'volatile' }, 2); }
      if (second === 600 || second === 700) { reported(63); page.add('gpu_ecc_errors_total', { ...name, severity: 'uncorrected', counter: 'volatile' }); }
      if (second === 840) { reported(79); page.add('gpu_collector_errors_total', { kind: 'gpu_lost' }); }
    }
    page.set('gpu_up', name, lost ? 0 : 1);
    page.set('gpu_info', this.identity(gpu), lost ? 0 : 1);
    const missing = this.condition === 'sick-gpu' && this.index === 0 && second > 840 ? 1 : 0;
    for (const [state, count] of [['found', this.gpus - missing], ['missing', missing], ['denied', 0]]) page.set('gpu_devices', { state }, count);
    page.set('gpu_collector_up', {}, 1);
    page.set('gpu_collector_last_success_timestamp_seconds', {}, now);
    if (gpu === 0) page.observe('gpu_collector_tick_seconds', {}, dice.around(lost ? 0.4 : 0.003 * this.gpus, 0.3));

    const hot = ill && second > 360;
    const busy = Math.min(0.99, Math.max(0.02, ((this.held.waiting + this.held.streaming) / (7 * this.gpus)) * (0.9 + 0.2 * dice.next()) + 0.05 * gpu / this.gpus));
    const gauge = (metric, labels, value) => page.set(metric, { ...name, ...labels }, lost ? NaN : value);
    gauge('gpu_utilization_ratio', {}, busy);
    gauge('gpu_utilization_max_ratio', {}, Math.min(1, busy + 0.25));
    gauge('gpu_engine_active_ratio', {}, busy);
    gauge('gpu_encoder_utilization_ratio', {}, 0);
    gauge('gpu_decoder_utilization_ratio', {}, 0);
    gauge('gpu_memory_controller_utilization_ratio', {}, busy * 0.7);
    gauge('gpu_sm_active_ratio', {}, busy * 0.8);
    gauge('gpu_sm_occupancy_ratio', {}, busy * 0.3);
    gauge('gpu_tensor_active_ratio', {}, busy * 0.22);
    gauge('gpu_dram_active_ratio', {}, busy * 0.62);
    gauge('gpu_memory_used_bytes', {}, (0.52 + 0.035 * (gpu % 4) + 0.12 * busy) * 80 * 2 ** 30);
    gauge('gpu_memory_reserved_bytes', {}, 0.6 * 2 ** 30);
    gauge('gpu_memory_total_bytes', {}, 80 * 2 ** 30);
    const watts = hot ? 310 : 110 + 540 * busy;
    for (const reading of ['instant', 'average_1s']) gauge('gpu_power_watts', { reading }, watts);
    for (const kind of ['enforced', 'default', 'max']) gauge('gpu_power_limit_watts', { kind }, 700);
    for (const domain of ['sm', 'memory']) {
      gauge('gpu_clock_max_hertz', { domain }, domain === 'sm' ? 1.98e9 : 2.619e9);
      gauge('gpu_clock_hertz', { domain }, domain === 'sm' ? (hot ? 0.9e9 : 1.98e9 - 0.3e9 * busy) : 2.619e9);
    }
    for (const reason of ['gpu_idle', 'applications_clocks_setting', 'sw_power_cap', 'hw_slowdown', 'sync_boost', 'sw_thermal_slowdown', 'hw_thermal_slowdown', 'hw_power_brake_slowdown', 'display_clock_setting']) {
      gauge('gpu_clock_event_active', { reason }, (hot && /hw_slowdown|hw_thermal/.test(reason)) || (reason === 'sw_power_cap' && busy > 0.9) ? 1 : 0);
    }
    gauge('gpu_temperature_celsius', { sensor: 'gpu' }, hot ? 89 : 36 + 34 * busy + gpu);
    gauge('gpu_temperature_celsius', { sensor: 'memory' }, hot ? 96 : 42 + 38 * busy + gpu);
    for (const [kind, limit] of [['slowdown', 87], ['shutdown', 92], ['mem_max', 95]]) gauge('gpu_temperature_limit_celsius', { kind }, limit);
    for (const direction of ['tx', 'rx']) gauge('gpu_pcie_bytes_per_second', { direction }, busy * (direction === 'tx' ? 1.1e9 : 2.4e9));
    for (const state of ['current', 'max']) { gauge('gpu_pcie_link_generation', { state }, 5); gauge('gpu_pcie_link_width', { state }, 16); }
    for (const cause of ['correctable', 'uncorrectable']) gauge('gpu_remapped_rows', { cause }, ill && cause === 'uncorrectable' && second > 600 ? 2 : 0);
    gauge('gpu_row_remap_pending', {}, ill && second > 600 ? 1 : 0);
    gauge('gpu_row_remap_failed', {}, 0);
    gauge('gpu_recovery_action', {}, ill && second > 600 ? 1 : 0);
    if (lost) return;
    page.add('gpu_busy_seconds_total', name, busy);
    page.add('gpu_energy_joules_total', name, watts);
    for (const direction of ['tx', 'rx']) page.add('gpu_nvlink_bytes_total', { ...name, direction }, busy * 6e9);
    if (hot) page.add('gpu_clock_event_seconds_total', { ...name, reason: 'hw_thermal_slowdown' }, 0.9);
    if (busy > 0.9) page.add('gpu_clock_event_seconds_total', { ...name, reason: 'sw_power_cap' }, 0.6);
    if (dice.next() < 0.002) page.add('gpu_pcie_replays_total', name);
    if (dice.next() < 0.001) page.add('gpu_ecc_errors_total', { ...name, severity: 'corrected', counter: 'volatile' });
    if (dice.next() < 0.001) page.add('gpu_nvlink_errors_total', { ...name, error: 'replay' });
  }
}

/** A machine and its containers: what node exporter and cAdvisor say of them. */
class Machine {
  node = new Page();
  containers = new Page();

  constructor(server) { this.server = server; }

  step() {
    const { node, containers, server } = this;
    const busy = Math.min(0.95, (server.held.waiting + server.held.streaming) / 400 + 0.05);
    for (let cpu = 0; cpu < 16; cpu += 1) {
      node.add('node_cpu_seconds_total', { cpu, mode: 'idle' }, 1 - busy);
      node.add('node_cpu_seconds_total', { cpu, mode: 'user' }, busy);
    }
    node.set('node_load1', {}, 16 * busy * 1.1);
    node.set('node_memory_MemTotal_bytes', {}, 512 * 2 ** 30);
    node.set('node_memory_MemAvailable_bytes', {}, 400 * 2 ** 30);
    node.add('node_disk_read_bytes_total', { device: 'nvme0n1' }, 2e6);
    node.add('node_disk_written_bytes_total', { device: 'nvme0n1' }, 5e6);
    node.add('node_network_receive_bytes_total', { device: 'eth0' }, 1e6 + busy * 4e6);
    node.add('node_network_transmit_bytes_total', { device: 'eth0' }, 2e6 + busy * 9e6);
    for (const [mountpoint, free] of [['/', 0.55], ['/models', 0.18]]) {
      node.set('node_filesystem_size_bytes', { device: `/dev${mountpoint}`, fstype: 'ext4', mountpoint }, 1e12);
      node.set('node_filesystem_avail_bytes', { device: `/dev${mountpoint}`, fstype: 'ext4', mountpoint }, free * 1e12);
    }
    for (const [name, cpus, memory] of [['qwen-server', 0.3 + busy * 6, 3.4], ['prometheus', 0.1, 0.9], ['grafana', 0.03, 0.3], ['node-exporter', 0.01, 0.03]]) {
      const labels = { id: `/docker/${name}`, image: `${name}:latest`, name };
      containers.add('container_cpu_usage_seconds_total', { ...labels, cpu: 'total' }, cpus);
      containers.set('container_memory_working_set_bytes', labels, memory * 2 ** 30);
      containers.add('container_cpu_cfs_throttled_seconds_total', labels, name === 'qwen-server' && busy > 0.5 ? busy - 0.4 : 0);
      containers.add('container_oom_events_total', labels, 0);
      containers.set('container_start_time_seconds', labels, server.start);
    }
  }
}

/** All of it. `advance` brings it to a time; `pages` has what each target says then. */
export class Fleet {
  constructor(condition, start) {
    const models = [
      { name: 'Qwen3-4B', rate: 2.2, slow: 1, quantization: 'Q8_0' },
      { name: 'Qwen3-14B', rate: 0.8, slow: 2.1, quantization: 'Q4_K_M' },
      { name: 'Qwen3-32B', rate: 0.4, slow: 3.5, quantization: 'Q4_K_M' },
      { name: 'Qwen2.5-7B-Instruct', rate: 1.3, slow: 1.4, quantization: 'none' },
    ];
    const [many, gpus] = condition === 'sixteen-gpus' ? [4, 8] : [2, 2];
    this.servers = [0, 1].map((index) => new Server(condition, index, models.slice(0, many), gpus, start));
    this.machines = this.servers.map((server) => new Machine(server));
    this.gateway = new Gateway(condition, this.servers, start);
    this.now = start;
  }

  advance(to) {
    for (; this.now < to; this.now += 1) {
      for (const server of this.servers) server.step();
      for (const machine of this.machines) machine.step();
      this.gateway.step();
    }
  }

  get pages() {
    return Object.fromEntries([['gateway/0', this.gateway.page], ...this.servers.flatMap(({ page }, index) => [
      [`llm/${index}`, page], [`node/${index}`, this.machines[index].node], [`cadvisor/${index}`, this.machines[index].containers],
    ])]);
  }
}

const endpoint = (operation) => operation === 'chat' ? '/v1/chat/completions' : '/v1/completions';
const of = (model, operation, stream, thinking, outcome) => ({ model, operation, endpoint: endpoint(operation), stream, thinking, outcome });
