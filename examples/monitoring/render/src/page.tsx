// The page: shows one dashboard, and says how it went in `window.report()`.
import { type DataFrame, FieldType, LoadingState, ThemeContext, dateMath } from '@grafana/data';
import { type EmbeddedScene, QueryVariable, type VizPanel, sceneGraph, sceneUtils } from '@grafana/scenes';
import { GlobalStyles, LinkButton } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { MemoryRouter } from 'react-router-dom';
import { install, theme } from './grafana';
import { registerPanels, unsupported } from './panels';
import { Prometheus } from './prometheus';
import { type Placed, sceneOf } from './scene';

type Setup = { dashboard: any; siblings: string[]; range: { from: string; to: string }; scrapeSeconds: number };

/** Any number, or any row of a table. */
const hasValues = (frames: DataFrame[], table: boolean) => frames.some((frame) => table
  ? frame.length > 0
  : frame.fields.some(({ type, values }) => type === FieldType.number && values.some((value: unknown) => value !== null)));

/** A time as Grafana takes it: now-25m, 2026-11-29T03:00:00Z, or milliseconds. */
function time(option: string, text: string) {
  const value = /^\d{10,}$/.test(text) ? new Date(Number(text)).toISOString() : text;
  if (!dateMath.isValid(value)) throw new Error(`${option} is no time: ${text}`);
  return value;
}

async function main() {
  const { dashboard, siblings, range, scrapeSeconds }: Setup = await (await fetch('/setup.json')).json();
  const prometheus = new Prometheus(scrapeSeconds);
  sceneUtils.registerRuntimeDataSource({ dataSource: prometheus });
  install(prometheus);
  registerPanels();
  const { scene, placed } = sceneOf(dashboard, { from: time('--from', range.from), to: time('--to', range.to) });
  const errors: string[] = [];
  window.addEventListener('error', (event) => errors.push(event.message));
  window.addEventListener('unhandledrejection', (event) => errors.push(String(event.reason)));

  const links = (dashboard.links ?? []).some((link: any) => link.type === 'dashboards') ? siblings : [];
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <MemoryRouter>
        <header>
          <h1>{dashboard.title}</h1>
          {links.map((title) => <LinkButton key={title} size="sm" variant="secondary" fill="outline" icon="external-link-alt">{title}</LinkButton>)}
        </header>
        <scene.Component model={scene} />
      </MemoryRouter>
    </ThemeContext.Provider>,
  );

  Object.assign(window, {
    settled: () => prometheus.pending === 0 && Date.now() - prometheus.lastAnswer > 1500
      && placed.every(({ panel }) => sceneGraph.getData(panel).state.data?.state !== LoadingState.Loading),
    report: () => ({ errors: [...errors, ...withoutValues(scene)], panels: placed.map(report) }),
    fullHeight: () => document.getElementById('root')!.scrollHeight,
  });
}

const element = (panel: VizPanel) => document.querySelector(`[data-viz-panel-key="${panel.state.key}"]`);

/** A variable without values makes every panel that uses it say nothing, or everything. */
const withoutValues = (scene: EmbeddedScene) => scene.state.$variables!.state.variables
  .filter((variable) => variable instanceof QueryVariable && !variable.state.options.length)
  .map((variable) => `the variable ${variable.state.name} has no values`);

function report({ json, panel }: Placed) {
  const data = sceneGraph.getData(panel).state.data;
  const series = data?.series ?? [];
  const silent = (json.targets ?? [])
    .filter((target: any) => !series.some((frame) => frame.refId === target.refId) && !json.transformations?.length)
    .map((target: any) => target.refId);
  const errors = [
    ...unsupported(json).map((what) => `this renderer does not know ${what}`),
    ...(data?.errors ?? []).map((error) => error.message ?? String(error)),
    ...(data?.state === LoadingState.Done ? [] : [`its data is ${data?.state ?? 'not there'}`]),
    ...[...(element(panel)?.querySelectorAll('[data-testid="data-testid Alert error"]') ?? [])].map((alert) => alert.textContent!),
    ...((panel as any)._pluginLoadError ? [`the panel could not be loaded: ${(panel as any)._pluginLoadError}`] : []),
  ];
  return { id: json.id, title: json.title, errors, empty: !hasValues(series, json.type === 'table'), silent };
}

main().catch((error) => Object.assign(window, { failure: String(error.stack ?? error) }));
