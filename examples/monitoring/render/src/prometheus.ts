// A Prometheus data source: what Grafana's own does with a target, over the HTTP API.
import { type AnnotationEvent, type AnnotationQuery, type DataFrame, type DataQueryRequest, FieldType, LoadingState, toDataFrame } from '@grafana/data';
import { RuntimeDataSource, sceneGraph } from '@grafana/scenes';
import { of } from 'rxjs';

type Series = { metric: Record<string, string>; value?: [number, string]; values?: [number, string][] };

export type Target = {
  refId: string; expr: string; legendFormat?: string; instant?: boolean; interval?: string;
  format?: 'time_series' | 'table' | 'heatmap';
};

const escape = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&').replace(/\\/g, '\\\\');
const matcher = (value: unknown) => Array.isArray(value)
  ? `(${value.map(String).map(escape).join('|')})`
  : escape(String(value));
const number = (text: string) => text === 'NaN' ? null : text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text);
const seconds = (text?: string) => {
  const [, count, unit] = /^(\d+)(ms|s|m|h)$/.exec(text ?? '') ?? [];
  return Number(count ?? 0) * ({ ms: 0.001, s: 1, m: 60, h: 3600 }[unit] ?? 0);
};

export class Prometheus extends RuntimeDataSource<any> {
  /** Requests that have no answer yet, and when the last one had: to know when a dashboard is complete. */
  pending = 0;
  lastAnswer = Date.now();

  annotations = {
    prepareAnnotation: ({ expr, step, ...rest }: any): AnnotationQuery<any> =>
      ({ ...rest, target: { refId: 'Anno', expr, interval: step, legendFormat: '' } }),
    processEvents: (query: any, frames: DataFrame[]) => of(frames.flatMap((frame) => eventsOf(query, frame))),
  };

  constructor(private readonly scrapeSeconds: number) {
    super('prometheus', 'prometheus');
    this.interval = `${scrapeSeconds}s`;
  }

  async testDatasource() {
    return { status: 'success', message: '' };
  }

  async query(request: DataQueryRequest<any>): Promise<any> {
    const frames = await Promise.all(request.targets.map((target) => this.run(target, request)));
    return { data: frames.flat(), state: LoadingState.Done };
  }

  async metricFindQuery(query: any, options: any) {
    const text = typeof query === 'string' ? query : query.query;
    const owner = options.scopedVars?.__sceneObject?.value?.valueOf();
    const [, selector, label] = /^label_values\((?:(.+),)?\s*(\w+)\s*\)$/s.exec(text) ?? [];
    if (!label) throw new Error(`this renderer reads label_values(…) only, not ${text}`);
    const range = options.range;
    const parameters = new URLSearchParams({ start: `${range.from.valueOf() / 1000}`, end: `${range.to.valueOf() / 1000}` });
    if (selector) parameters.set('match[]', sceneGraph.interpolate(owner, selector, undefined, matcher));
    const values: string[] = await this.fetch(`label/${label}/values`, parameters);
    return values.map((value) => ({ text: value }));
  }

  private async run(target: Target, request: DataQueryRequest<any>): Promise<DataFrame[]> {
    const start = request.range.from.valueOf() / 1000;
    const end = request.range.to.valueOf() / 1000;
    const step = Math.max(Math.ceil(request.intervalMs / 1000), seconds(target.interval), this.scrapeSeconds, (end - start) / 11_000);
    const expr = this.interpolate(target.expr, request, step, Math.round(end - start));
    const at = target.instant
      ? { time: `${end}` }
      : { start: `${Math.floor(start / step) * step}`, end: `${Math.ceil(end / step) * step}`, step: `${step}` };
    const { result } = await this.fetch(target.instant ? 'query' : 'query_range', new URLSearchParams({ query: expr, ...at }));
    const series: Series[] = result;
    if (target.format === 'table') return series.length ? [table(target, series, request.targets.length > 1)] : [];
    if (target.format === 'heatmap') return heatmap(target, series, step);
    return series.map((one) => timeSeries(target, one, step));
  }

  private interpolate(expr: string, request: DataQueryRequest<any>, step: number, range: number) {
    const variables = {
      ...request.scopedVars,
      __interval: { value: `${step}s`, text: '' },
      __rate_interval: { value: `${Math.max(step + this.scrapeSeconds, 4 * this.scrapeSeconds)}s`, text: '' },
      __range: { value: `${range}s`, text: '' },
    };
    const owner = (request.scopedVars as any).__sceneObject?.value?.valueOf();
    return sceneGraph.interpolate(owner, expr, variables, matcher);
  }

  private async fetch(path: string, parameters: URLSearchParams): Promise<any> {
    this.pending += 1;
    try {
      const answer = await (await fetch(`/api/v1/${path}?${parameters}`)).json();
      if (answer.status !== 'success') throw new Error(`${answer.error} (${parameters.get('query') ?? path})`);
      return answer.data;
    } finally {
      this.pending -= 1;
      this.lastAnswer = Date.now();
    }
  }
}

const fill = (template: string, metric: Record<string, string>) =>
  template.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? '');

/** Samples that follow each other are one event. */
function eventsOf(query: any, frame: DataFrame): AnnotationEvent[] {
  const [times, { values, labels = {} }] = [frame.fields[0], frame.fields[1]];
  const step = times.config.interval ?? 0;
  const events: AnnotationEvent[] = [];
  times.values.forEach((time: number, index: number) => {
    if (!values[index]) return;
    const last = events.at(-1);
    if (last && time - last.timeEnd! <= step) last.timeEnd = time;
    else events.push({ time, timeEnd: time, title: fill(query.titleFormat ?? '', labels), text: fill(query.textFormat ?? '', labels) });
  });
  return events;
}

function legend(target: Target, metric: Record<string, string>) {
  if (target.legendFormat && target.legendFormat !== '__auto') return fill(target.legendFormat, metric);
  const { __name__: name = '', ...labels } = metric;
  return `${name}{${Object.entries(labels).map(([label, value]) => `${label}="${value}"`).join(', ')}}`;
}

function timeSeries(target: Target, { metric, value, values = [value!] }: Series, step: number): DataFrame {
  const name = legend(target, metric);
  return toDataFrame({
    refId: target.refId,
    name,
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map(([time]) => time * 1000), config: { interval: step * 1000 } },
      {
        name: 'Value', type: FieldType.number, values: values.map(([, text]) => number(text)), labels: metric,
        config: { displayNameFromDS: name },
      },
    ],
  });
}

function table(target: Target, series: Series[], several: boolean): DataFrame {
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const rows = series.flatMap(({ metric, value, values = [value!] }) => values.map((sample) => ({ metric, sample })));
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: rows.map(({ sample }) => sample[0] * 1000) },
      ...labels.map((label) => ({ name: label, type: FieldType.string, values: rows.map(({ metric }) => metric[label] ?? '') })),
      { name: several ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: rows.map(({ sample }) => number(sample[1])) },
    ],
  });
}

/** Buckets that each count what is above the bound below: Prometheus's are cumulative. */
function heatmap(target: Target, series: Series[], step: number): DataFrame[] {
  const bound = ({ metric }: Series) => number(metric.le ?? '+Inf')!;
  const sorted = [...series].sort((a, b) => bound(a) - bound(b));
  return sorted.map((one, index) => {
    const below = new Map(index ? sorted[index - 1].values : []);
    const values = one.values!.map(([time, text]): [number, string] =>
      [time, String(Math.max(0, number(text)! - number(below.get(time) ?? '0')!))]);
    return timeSeries({ ...target, legendFormat: '{{le}}' }, { metric: one.metric, values }, step);
  });
}
