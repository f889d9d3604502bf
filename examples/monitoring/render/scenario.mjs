// Runs a real Prometheus, with the shipped configuration and rules, on a simulated fleet (made-up.mjs), until it gets a signal to end.
//
//   node scenario.mjs --condition overload --port 9190 --data out/overload
//
// Then `npm run render -- --prometheus http://127.0.0.1:9190`. The trouble begins after 6 to 12 minutes; 25 minutes have all of it.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { CONDITIONS, Fleet } from './made-up.mjs';

const STACK = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const USAGE = `Usage: node scenario.mjs --condition ${CONDITIONS.join('|')} [--port 9190] [--data out/data] [--retention 1d]`;

function options() {
  try {
    const { values } = parseArgs({ options: {
      condition: { type: 'string' }, port: { type: 'string', default: '9190' }, data: { type: 'string', default: 'out/data' },
      retention: { type: 'string', default: '1d' },
    } });
    if (!CONDITIONS.includes(values.condition)) throw new Error('--condition is missing or unknown');
    return { ...values, port: Number(values.port), data: path.resolve(values.data) };
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(2);
  }
}

/** The shipped configuration, with the fleet's addresses in place of the ones that are there. */
function configure({ port, data }, serving) {
  mkdirSync(path.join(data, 'targets'), { recursive: true });
  const shipped = readFileSync(path.join(STACK, 'prometheus.yml'), 'utf8');
  const own = shipped.replaceAll('127.0.0.1:9090', `127.0.0.1:${port}`).replaceAll('rules/*', `${STACK}/rules/*`)
    .replaceAll('127.0.0.1:9093', `127.0.0.1:${serving}`);
  writeFileSync(path.join(data, 'prometheus.yml'), own);
  const ports = { llm: 8080, node: 9100, cadvisor: 8098 };
  for (const job of [...Object.keys(ports), 'dcgm']) {
    const targets = (job in ports ? [0, 1] : []).map((index) =>
      ({ targets: [`127.0.0.1:${serving}`], labels: { __metrics_path__: `/${job}/${index}`, instance: `gpu-${index + 1}:${ports[job]}` } }));
    if (job === 'llm') targets.push({ targets: [`127.0.0.1:${serving}`], labels: { __metrics_path__: '/gateway/0', instance: 'gateway:9464' } });
    writeFileSync(path.join(data, `targets/${job}.yml`), JSON.stringify(targets));
  }
}

const given = options();
const fleet = new Fleet(given.condition, Math.floor(Date.now() / 1000));
const server = http.createServer((request, response) => {
  fleet.advance(Math.floor(Date.now() / 1000));
  // In Alertmanager's place: it takes the alerts, and is up.
  const text = /^\/(api\/v2\/alerts|metrics)$/.test(request.url) ? '' : fleet.pages[request.url.slice(1)]?.text();
  request.resume();
  response.writeHead(text === undefined ? 404 : 200, { 'content-type': 'text/plain; version=0.0.4' });
  response.end(text);
});
server.listen(0, '127.0.0.1', () => {
  configure(given, server.address().port);
  const prometheus = spawn('prometheus', [
    `--config.file=${given.data}/prometheus.yml`, `--storage.tsdb.path=${given.data}/tsdb`, `--web.listen-address=127.0.0.1:${given.port}`,
    `--storage.tsdb.retention.time=${given.retention}`, '--web.enable-lifecycle', '--log.level=warn',
  ], { stdio: 'inherit' });
  prometheus.on('error', (error) => { console.error(`prometheus: ${error.message}. .ci/install-tools gets it`); process.exit(1); });
  prometheus.on('exit', (code) => process.exit(code ?? 1));
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => prometheus.kill('SIGTERM'));
  console.log(`${given.condition}: http://127.0.0.1:${given.port}`);
});
