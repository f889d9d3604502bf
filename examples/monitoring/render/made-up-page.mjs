// What the made-up fleet is made of: pages of metrics, and chances that are always the same.
import { readFileSync } from 'node:fs';

const documented = (file) => readFileSync(new URL(`../../../docs/${file}`, import.meta.url), 'utf8');
const BOUNDS = Object.fromEntries(['METRICS.md', 'gpu.md', 'gateway.md'].flatMap((file) =>
  [...documented(file).matchAll(/^\| `(\w+)` \| ([\d. ]+) \|$/gm)].map(([, name, bounds]) => [name, bounds.trim().split(' ').map(Number)])));

/** Always the same chances: a picture that changes has a reason. */
export function chances(seed) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(next() + 1e-12)) * Math.cos(2 * Math.PI * next());
  return {
    next,
    around: (median, spread) => median * Math.exp(spread * normal()),
    count: (mean) => { let [count, left] = [0, Math.exp(-mean)]; for (let at = next(); at > left; at *= next()) count += 1; return count; },
    pick: (weights) => { let at = next(); for (const [value, weight] of weights) { if ((at -= weight) < 0) return value; } return weights.at(-1)[0]; },
  };
}

export class Page {
  samples = new Map();

  set(name, labels, value) { this.samples.set(key(name, labels), value); }
  add(name, labels, value = 1) { const at = key(name, labels); this.samples.set(at, (this.samples.get(at) ?? 0) + value); }
  get(name, labels) { return this.samples.get(key(name, labels)) ?? 0; }

  observe(name, labels, value, times = 1) {
    for (const bound of BOUNDS[name]) this.add(`${name}_bucket`, { ...labels, le: String(bound) }, value <= bound ? times : 0);
    this.add(`${name}_bucket`, { ...labels, le: '+Inf' }, times);
    this.add(`${name}_sum`, labels, value * times);
    this.add(`${name}_count`, labels, times);
  }

  text() { return [...this.samples].map(([name, value]) => `${name} ${value}\n`).join(''); }
}

const key = (name, labels) => `${name}{${Object.entries(labels).map(([label, value]) => `${label}="${value}"`).join(',')}}`;
