// A gateway in front of the made-up servers, an Ollama and a hosted API. It does not measure requests (`measure = false`): the servers do that
// themselves, and each would count twice.
import { Page, chances } from './made-up-page.mjs';

/** What goes through it in a second, and what each upstream takes until it answers. */
const UPSTREAMS = [
  { name: 'gpu-1', rate: 3 }, { name: 'gpu-2', rate: 3 }, { name: 'ollama', rate: 0.7 }, { name: 'openai', rate: 1.2, hosted: true },
];
const OLLAMAS = [{ model: 'qwen3:8b', share: 0.997, bytes: 6.4e9 }, { model: 'llama3.2:3b', share: 0.003, bytes: 2.8e9 }];
const KEPT_LOADED = 300;

export class Gateway {
  page = new Page();
  second = 0;
  quota = { requests: 1, tokens: 1 };
  asked = {};

  constructor(condition, servers, start) {
    Object.assign(this, { condition, servers, start, dice: chances(4242) });
    const { page } = this;
    page.set('llm_metrics_build_info', { version: '0.1.1' }, 1);
    page.set('process_start_time_seconds', {}, start);
    page.set('process_max_fds', {}, 65536);
    for (const { name: upstream } of UPSTREAMS) {
      for (const result of ['answered', 'refused', 'reset', 'timeout', 'cancelled']) page.add('llm_gateway_attempts_total', { upstream, result }, 0);
      for (const kind of ['quota', 'overload', 'unknown']) page.add('llm_gateway_throttled_total', { upstream, kind }, 0);
      page.add('llm_gateway_poll_failures_total', { upstream }, 0);
    }
  }

  step() {
    this.second += 1;
    const { page, dice, servers, second } = this;
    for (const upstream of UPSTREAMS) {
      const now = this.weather(upstream);
      page.set('llm_gateway_upstream_up', { upstream: upstream.name }, now.down ? 0 : 1);
      for (let left = dice.count(upstream.rate * now.rate); left > 0; left -= 1) this.attempt(upstream, now);
      if (now.down && second % 15 === 0) page.add('llm_gateway_poll_failures_total', { upstream: upstream.name });
    }
    // The allowance is of a minute.
    if (second % 60 === 0) this.quota = { requests: 1, tokens: 1 };
    for (const [kind, left] of Object.entries(this.quota)) page.set('llm_gateway_quota_remaining_ratio', { upstream: 'openai', kind }, left);
    this.models();
    const inside = servers.reduce((sum, { held }) => sum + held.waiting + held.streaming, 0);
    page.set('llm_gateway_connections', {}, Math.round(inside * 1.2) + 12);
    page.add('process_cpu_seconds_total', {}, 0.02 + inside * 0.0004);
    page.set('process_resident_memory_bytes', {}, (18 + inside * 0.04) * 2 ** 20);
    page.set('process_open_fds', {}, 30 + 2 * inside);
    page.set('process_threads', {}, 6);
  }

  weather({ name, hosted }) {
    const { condition, second } = this;
    const well = { rate: 1 + 0.35 * Math.sin(second / 400), down: false, failing: 0.001, leaving: 0.015, busy: 1 };
    if (condition === 'overload' && second > 720) {
      const pressed = Math.min(1, (second - 720) / 240);
      const down = name === 'ollama' && second > 960;
      return { rate: 1 + 4 * pressed, down, failing: hosted ? 0.002 : 0.12 * pressed, leaving: 0.015 + 0.2 * pressed, busy: 1 + 3 * pressed };
    }
    if (condition === 'sick-gpu' && name === 'gpu-1' && second > 840) return { ...well, failing: 0.25 };
    return well;
  }

  attempt({ name: upstream, hosted }, now) {
    const { page, dice, quota } = this;
    const result = now.down ? 'refused' : dice.pick([['timeout', now.failing * 0.7], ['reset', now.failing * 0.3], ['cancelled', now.leaving], ['answered', 1]]);
    page.add('llm_gateway_attempts_total', { upstream, result });
    page.observe('llm_gateway_overhead_seconds', { upstream }, dice.around(0.00012 * now.busy, 0.6));
    if (result !== 'answered') return;
    if (upstream === 'ollama') this.asked[dice.pick(OLLAMAS.map(({ model, share }) => [model, share]))] = this.second;
    if (!hosted) return;
    quota.requests = Math.max(0, quota.requests - 0.006);
    quota.tokens = Math.max(0, quota.tokens - dice.around(0.006, 0.8));
    if (quota.tokens === 0 || dice.next() < 0.004) {
      page.add('llm_gateway_throttled_total', { upstream, kind: quota.tokens === 0 ? 'quota' : 'overload' });
      page.observe('llm_gateway_retry_after_seconds', { upstream }, quota.tokens === 0 ? 60 - this.second % 60 : 5);
    }
  }

  /** Of Ollama, while it can be asked: a model goes five minutes after it was asked for the last time. */
  models() {
    const { page, second, start } = this;
    const upstream = 'ollama';
    const known = page.get('llm_gateway_upstream_up', { upstream }) === 1;
    let loaded = 0;
    for (const { model, bytes } of OLLAMAS) {
      const until = (this.asked[model] ?? -KEPT_LOADED) + KEPT_LOADED;
      const there = known && until > second;
      loaded += there ? 1 : 0;
      for (const kind of ['total', 'gpu']) page.set('llm_gateway_model_memory_bytes', { upstream, model, kind }, there ? bytes : NaN);
      page.set('llm_gateway_model_expiry_timestamp_seconds', { upstream, model }, there ? start + until : NaN);
    }
    page.set('llm_gateway_loaded_models', { upstream }, known ? loaded : NaN);
  }
}
