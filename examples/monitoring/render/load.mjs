// A small, bounded load with everything in it that a dashboard has a panel for: streams and documents, with and without
// thinking, answers that are cut, requests that are refused, clients that leave, bursts that overflow the queue.
//
//   node load.mjs --minutes 10 http://127.0.0.1:8080 [http://127.0.0.1:8081 …]
import http from 'node:http';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';

const PROMPTS = [
  'What is a token?',
  'Explain the difference between a histogram and a summary to someone who has never seen either. '.repeat(1),
  'Write a short story about a lighthouse. '.repeat(3),
  'Summarise: ' + 'the quick brown fox jumps over the lazy dog. '.repeat(8),
];

const pick = (list) => list[Math.floor(Math.random() * list.length)];

function request() {
  const dice = Math.random();
  const content = pick(PROMPTS);
  const length = Math.floor(2 ** (3 + 4 * Math.random()));
  const chat = {
    messages: [{ role: 'user', content }],
    max_tokens: length,
    enable_thinking: Math.random() < 0.5,
    stream: true,
    stream_options: { include_usage: true },
  };
  const path = '/v1/chat/completions';
  if (dice < 0.66) return { path, body: chat };
  if (dice < 0.8) return { path, body: { ...chat, stream: false, stream_options: undefined } };
  if (dice < 0.86) return { path: '/v1/completions', body: { prompt: content, max_tokens: length } };
  if (dice < 0.92) return { path, body: { ...chat, max_tokens: 160, ignore_eos: true }, leaveAfter: 3 + Math.random() * 20 };
  if (dice < 0.94) return { path, body: { ...chat, messages: 'not a list' } };
  if (dice < 0.95) return { path, body: { ...chat, model: 'no-such-model' } };
  if (dice < 0.955) return { path, body: { ...chat, max_tokens: 1500, ignore_eos: true } };
  return { path, body: { ...chat, max_tokens: 120, ignore_eos: true } };
}

function send(base, { path, body, leaveAfter }) {
  return new Promise((done) => {
    const call = http.request(base + path, { method: 'POST', headers: { 'content-type': 'application/json' } }, (answer) => {
      let chunks = 0;
      answer.on('data', () => { if (++chunks > leaveAfter) call.destroy(); });
      answer.on('close', () => done(answer.statusCode));
      answer.on('error', () => {});
    });
    call.on('error', () => done(undefined));
    call.end(JSON.stringify(body));
  });
}

/** Puts a load on every base address until `stop` is aborted: some `rate` requests a second each, rising and falling. */
export async function load(bases, { rate = 0.5, stop, burstEvery = 240 }) {
  const began = Date.now();
  const open = new Set();
  const start = (base) => {
    if (open.size > 64) return;
    const one = send(base, request()).finally(() => open.delete(one));
    open.add(one);
  };
  let bursts = 0;
  while (!stop.aborted) {
    const seconds = (Date.now() - began) / 1000;
    const level = 1 + 0.7 * Math.sin((2 * Math.PI * seconds) / 600);
    await new Promise((next) => setTimeout(next, (-Math.log(1 - Math.random()) * 1000) / (rate * bases.length * level)));
    start(pick(bases));
    if (seconds / burstEvery > bursts + 1) {
      bursts += 1;
      for (let i = 0; i < 14; i += 1) start(bases[0]);
    }
  }
  await Promise.race([Promise.all(open), new Promise((enough) => setTimeout(enough, 5000))]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { minutes: { type: 'string', default: '10' }, rate: { type: 'string', default: '0.5' } },
  });
  await load(positionals, { rate: Number(values.rate), stop: AbortSignal.timeout(Number(values.minutes) * 60_000) });
  process.exit(0);
}
