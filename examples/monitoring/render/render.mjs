// Renders dashboards with Grafana's front-end libraries in Chromium, against a Prometheus, into PNG files.
// Fails where a panel has an error, or is empty and not expected to be. See README.md.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, mkdtempSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';
import puppeteer from 'puppeteer-core';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const FONTS = '@fontsource/inter/files';
const USAGE = `Usage: npm run render -- [--prometheus URL] [--from now-30m] [--to now] [--width 1600] [--out DIR] [DASHBOARD.json …]`;

function options() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        prometheus: { type: 'string', default: 'http://127.0.0.1:9090' },
        from: { type: 'string', default: 'now-30m' },
        to: { type: 'string', default: 'now' },
        width: { type: 'string', default: '1600' },
        out: { type: 'string', default: path.join(HERE, 'out') },
      },
    });
    return { ...values, files: positionals };
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(2);
  }
}

function chromium() {
  const places = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
  const found = places.find((place) => place && existsSync(place));
  if (!found) throw new Error('no Chromium: install it (Debian: apt-get install chromium), or name it in CHROMIUM');
  return found;
}

/** Grafana's libraries and our glue in one script; 10 seconds. */
async function bundle() {
  const nothing = path.join(HERE, 'src/nothing.js');
  const { outputFiles } = await esbuild.build({
    entryPoints: [path.join(HERE, 'src/page.tsx')],
    bundle: true, write: false, format: 'iife', jsx: 'automatic', target: 'chrome120', logLevel: 'error',
    mainFields: ['browser', 'module', 'main'],
    loader: { '.svg': 'dataurl', '.png': 'dataurl', '.gif': 'dataurl', '.woff2': 'dataurl', '.css': 'empty' },
    alias: { 'react-router-dom-v5-compat': 'react-router-dom', stream: nothing, tty: nothing, util: nothing },
    define: {
      global: 'window', 'process.env.NODE_ENV': '"production"', 'process.env.BUILD_HASH': '""',
      'process.env.FRONTEND_DEV_FAIL_TESTS_ON_CONSOLE': '""',
    },
  });
  return outputFiles[0].contents;
}

/** The interval that Grafana takes for the scrapes' own: that of the provisioned data source, so that what is drawn is what is shipped. */
async function scrapeSeconds(prometheus) {
  await fetch(`${prometheus}/-/ready`).catch((error) => {
    throw new Error(`no Prometheus at ${prometheus} (${error.cause?.code ?? error.message}): name it with --prometheus`);
  });
  const source = readFileSync(path.join(HERE, '../grafana/provisioning/datasources/prometheus.yml'), 'utf8');
  const [, count, unit] = source.match(/^\s*timeInterval:\s*(\d+)(ms|s|m)\s*$/m) ?? [];
  if (!count) throw new Error('the provisioned data source has no timeInterval');
  return Number(count) * { ms: 0.001, s: 1, m: 60 }[unit];
}

/** Serves the page, and passes queries on to Prometheus. */
function serve(prometheus, script, current) {
  const css = ['uplot/dist/uPlot.min.css', 'react-grid-layout/css/styles.css', '@grafana/react-data-grid/lib/styles.css']
    .map((file) => readFileSync(path.join(HERE, 'node_modules', file), 'utf8')).join('\n') + readFileSync(path.join(HERE, 'src/page.css'), 'utf8');
  const page = `<!doctype html><html><head><meta charset="utf-8"><style>${css}</style></head>`
    + '<body class="theme-dark"><div id="root"></div><script>window.grafanaBootData = { user: {}, settings: {}, navTree: [] };</script>'
    + '<script src="/page.js"></script></body></html>';
  const server = http.createServer(async (request, response) => {
    const send = (type, body, status = 200) => { response.writeHead(status, { 'content-type': type }); response.end(body); };
    if (request.url.startsWith('/api/v1/')) {
      try {
        const answer = await fetch(prometheus + request.url);
        send('application/json', Buffer.from(await answer.arrayBuffer()), answer.status);
      } catch (error) {
        send('application/json', JSON.stringify({ status: 'error', error: `Prometheus: ${error.message}` }), 502);
      }
    } else if (request.url === '/') send('text/html', page);
    else if (request.url === '/page.js') send('text/javascript', script);
    else if (request.url === '/setup.json') send('application/json', JSON.stringify(current.setup));
    else if (request.url.endsWith('.svg')) file(send, 'image/svg+xml', '@grafana/ui/dist/public/img/icons', request.url.split('/img/icons/')[1]);
    else if (request.url.endsWith('Inter-Regular.woff2')) file(send, 'font/woff2', FONTS, 'inter-latin-400-normal.woff2');
    else if (request.url.endsWith('Inter-Medium.woff2')) file(send, 'font/woff2', FONTS, 'inter-latin-500-normal.woff2');
    else send('text/plain', '', request.url === '/favicon.ico' ? 204 : 404);
  });
  return new Promise((ready) => server.listen(0, '127.0.0.1', () => ready(server)));
}

/** An icon of Grafana's library, or its font, which is not in it. An icon that the library lacks is left out. */
function file(send, type, folder, name = '') {
  const place = path.join(HERE, 'node_modules', folder, path.normalize(`/${name}`));
  if (existsSync(place)) send(type, readFileSync(place));
  else send(type, '', 204);
}

async function shoot(browser, address, width, file) {
  const page = await browser.newPage();
  const said = [];
  page.on('pageerror', (error) => said.push(error.message));
  page.on('console', (message) => { if (message.type() === 'error') said.push(message.text().split('\n').slice(0, 3).join(' ')); });
  await page.setViewport({ width, height: 4000 });
  await page.goto(address);
  await page.waitForFunction('window.failure || window.report', { timeout: 30_000 });
  const failure = await page.evaluate('window.failure');
  if (failure) throw new Error(failure);
  await page.waitForFunction('window.settled()', { timeout: 60_000, polling: 250 });
  await page.setViewport({ width, height: await page.evaluate('window.fullHeight()') });
  await new Promise((painted) => setTimeout(painted, 1000));
  await page.screenshot({ path: file });
  const report = await page.evaluate('window.report()');
  await page.close();
  return { ...report, errors: [...report.errors, ...said] };
}

/** Prints what is wrong with a dashboard, and says whether anything is. */
function judge(name, { errors, panels }, mayBeEmpty) {
  const faults = errors.map((error) => `page: ${error}`);
  for (const { title, errors, empty, silent } of panels) {
    const reason = mayBeEmpty[`${name}/${title}`];
    faults.push(...errors.map((error) => `${title}: ${error}`));
    if (empty && !reason) faults.push(`${title}: it is empty`);
    if (!empty && silent.length) console.log(`  note: ${title}: no data for ${silent.join(', ')}`);
    if (empty && reason) console.log(`  note: ${title} is empty: ${reason}`);
  }
  for (const fault of faults) console.log(`  FAULT ${fault}`);
  return faults.length === 0;
}

async function main() {
  const { prometheus, from, to, width, out, files } = options();
  const folder = path.join(HERE, '../grafana/dashboards');
  const dashboards = files.length ? files : readdirSync(folder).filter((name) => name.endsWith('.json')).map((name) => path.join(folder, name));
  const read = dashboards.map((file) => ({ file, json: JSON.parse(readFileSync(file, 'utf8')) }));
  const mayBeEmpty = JSON.parse(readFileSync(path.join(HERE, 'may-be-empty.json'), 'utf8'));
  const executablePath = chromium();
  const seconds = await scrapeSeconds(prometheus);
  const current = {};
  const server = await serve(prometheus, await bundle(), current);
  const profile = mkdtempSync(path.join(tmpdir(), 'render-'));
  const browser = await puppeteer.launch({
    executablePath, userDataDir: profile,
    args: ['--no-sandbox', '--disable-gpu', '--force-color-profile=srgb', '--font-render-hinting=none'],
  });
  mkdirSync(out, { recursive: true });
  let good = true;
  try {
    for (const { file, json } of read) {
      const name = path.basename(file, '.json');
      const png = path.join(out, `${name}.png`);
      current.setup = { dashboard: json, siblings: read.map((one) => one.json.title), range: { from, to }, scrapeSeconds: seconds };
      console.log(`${name}: ${json.title}`);
      try {
        const report = await shoot(browser, `http://127.0.0.1:${server.address().port}/`, Number(width), png);
        good = judge(name, report, mayBeEmpty) && good;
        console.log(`  ${report.panels.length} panels, ${png}, ${Math.round(statSync(png).size / 1024)} KB`);
      } catch (error) {
        console.log(`  FAULT ${error.message}`);
        good = false;
      }
    }
  } finally {
    await browser.close();
    server.close();
    rmSync(profile, { recursive: true, force: true });
  }
  process.exit(good ? 0 : 1);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
