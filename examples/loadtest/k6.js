// k6 against a server that speaks OpenAI's API: steps of load in an open loop, with checks.
//
//     k6 run -e HOST=http://127.0.0.1:8080 -e MODEL=Qwen3-tiny k6.js
//
// Settings: HOST, MODEL, THINKING (on, off, both), MAX_TOKENS (128), RATES (requests per second of each step: 1,2,4,8),
// STEP (length of a step: 60s), MAX_VUS (256), P99_SECONDS (30: the test fails above it).
//
// A k6 script gets an answer only when it is complete. It can measure the time to the response head (`http_req_waiting`, often
// *before* the first token) and the whole duration (`http_req_duration`). It cannot measure the time to first token or
// the time between tokens. See the README.

import { check } from 'k6';
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter, Rate, Trend } from 'k6/metrics';

const host = __ENV.HOST || 'http://127.0.0.1:8080';
const model = __ENV.MODEL || 'Qwen3-tiny';
const thinking = __ENV.THINKING || '';
const maxTokens = Number(__ENV.MAX_TOKENS || 128);
const rates = (__ENV.RATES || '1,2,4,8').split(',').map(Number);
const step = __ENV.STEP || '60s';
const prompts = JSON.parse(open('./prompts.json'));

const head = new Trend('head_seconds');
const whole = new Trend('whole_answer_seconds');
const tokens = new Counter('output_tokens');
const validJson = new Rate('valid_json');

if (!['', 'on', 'off', 'both'].includes(thinking)) {
  throw new Error(`THINKING is ${thinking}: give on, off or both`);
}

export const options = {
  // Some servers close a connection after a stream though they said that they would keep it: k6 takes that for a failure.
  noConnectionReuse: true,
  scenarios: {
    steps: {
      executor: 'ramping-arrival-rate',
      startRate: rates[0],
      timeUnit: '1s',
      preAllocatedVUs: 16,
      maxVUs: Number(__ENV.MAX_VUS || 256),
      // A jump to each rate, then holding it.
      stages: rates.flatMap((rate) => [{ target: rate, duration: '0s' }, { target: rate, duration: step }]),
    },
  },
  thresholds: {
    checks: ['rate>0.99'],
    http_req_failed: [{ threshold: 'rate<0.05', abortOnFail: true, delayAbortEval: '30s' }],
    whole_answer_seconds: [`p(99)<${__ENV.P99_SECONDS || 30}`],
    // Requests that k6 could not send are missing load: a test with any of them is not an open loop.
    dropped_iterations: ['count==0'],
  },
};

export default function () {
  const number = exec.scenario.iterationInTest;
  const prompt = prompts[Math.floor(Math.random() * prompts.length)];
  const own = Math.floor(Math.random() * 2 ** 32).toString(16);
  const body = {
    model,
    // Each prompt begins with random words: otherwise a prefix cache would answer instead of the model.
    messages: [{ role: 'user', content: `[${own}] ${prompt.prompt}` }],
    max_tokens: maxTokens,
    stream: true,
    stream_options: { include_usage: true },
  };
  if (thinking) {
    body.chat_template_kwargs = { enable_thinking: thinking === 'both' ? number % 2 === 0 : thinking === 'on' };
  }
  const response = http.post(`${host}/v1/chat/completions`, JSON.stringify(body), {
    headers: { 'content-type': 'application/json' },
    timeout: '120s',
  });
  const answer = read(response.body || '');
  const complete = check(response, {
    'status is 200': (r) => r.status === 200,
    'the stream is complete': () => answer.complete,
    'no error inside the stream': () => !answer.failed,
  });
  if (!complete) {
    return;
  }
  head.add(response.timings.waiting / 1000);
  whole.add(response.timings.duration / 1000);
  tokens.add(answer.tokens);
  if (prompt.json) {
    validJson.add(isJson(answer.text));
  }
}

function read(body) {
  const answer = { text: '', tokens: 0, complete: false, failed: false };
  for (const line of body.split('\n')) {
    const data = line.startsWith('data:') ? line.slice(5).trim() : '';
    if (data === '' || data === '[DONE]') {
      answer.complete = answer.complete || data === '[DONE]';
      continue;
    }
    try {
      const event = JSON.parse(data);
      answer.failed = answer.failed || Boolean(event.error);
      answer.tokens = event.usage?.completion_tokens ?? answer.tokens;
      for (const choice of event.choices || []) {
        answer.text += choice.delta?.content || '';
        answer.complete = answer.complete || Boolean(choice.finish_reason);
      }
    } catch {
      answer.failed = true;
    }
  }
  return answer;
}

function isJson(text) {
  try {
    JSON.parse(text.split('</think>').pop());
    return true;
  } catch {
    return false;
  }
}
