// A dashboard's JSON, as a scene of Grafana's own library.
import {
  CustomVariable, DataSourceVariable, EmbeddedScene, QueryVariable, SceneControlsSpacer, SceneDataLayerControls, SceneDataLayerSet,
  SceneDataTransformer, SceneGridItem, SceneGridLayout, SceneGridRow, SceneQueryRunner, SceneTimePicker, SceneTimeRange,
  SceneVariableSet, VariableValueSelectors, VizPanel, dataLayers,
} from '@grafana/scenes';

export type Placed = { json: any; panel: VizPanel };

export function sceneOf(dashboard: any, range: { from: string; to: string }) {
  const placed: Placed[] = [];
  const annotations = (dashboard.annotations?.list ?? []).filter((one: any) => one.builtIn !== 1);
  const layers = annotations.map((query: any) =>
    new dataLayers.AnnotationsDataLayer({ name: query.name, isEnabled: query.enable, isHidden: query.hide, query }));
  const scene = new EmbeddedScene({
    $timeRange: new SceneTimeRange({ ...range, timeZone: 'utc' }),
    $variables: new SceneVariableSet({ variables: (dashboard.templating?.list ?? []).map(variable) }),
    $data: new SceneDataLayerSet({ name: annotations.map((one: any) => one.name).join(', '), layers }),
    controls: [new VariableValueSelectors({}), ...(layers.length ? [new SceneDataLayerControls()] : []), new SceneControlsSpacer(), new SceneTimePicker({})],
    body: new SceneGridLayout({ isLazy: false, children: layout(dashboard.panels, placed) }),
  });
  return { scene, placed };
}

function variable(json: any): any {
  const common = { name: json.name, label: json.label, hide: json.hide ?? 0, description: json.description };
  const choice = {
    ...common, isMulti: json.multi, includeAll: json.includeAll, allValue: json.allValue,
    value: json.current?.value ?? (json.includeAll ? '$__all' : ''), text: json.current?.text ?? (json.includeAll ? 'All' : ''),
  };
  switch (json.type) {
    case 'datasource': return new DataSourceVariable({ ...common, pluginId: json.query, regex: json.regex });
    case 'query':
      return new QueryVariable({ ...choice, query: json.query, datasource: json.datasource, regex: json.regex, refresh: json.refresh, sort: json.sort });
    case 'custom': return new CustomVariable({ ...choice, query: json.query });
    default: throw new Error(`this renderer has no variable of type ${json.type}`);
  }
}

/** The panels below a row's header are its children, as Grafana shows them. */
function layout(panels: any[], placed: Placed[]) {
  const children: any[] = [];
  let row: SceneGridRow | undefined;
  for (const json of panels) {
    if (json.type === 'row') {
      if (json.collapsed) throw new Error(`the row ${json.title} is collapsed: its panels would not be seen`);
      row = new SceneGridRow({ title: json.title, y: json.gridPos.y, isCollapsed: false, isCollapsible: true, children: [] });
      children.push(row);
      continue;
    }
    const { x, y, w, h } = json.gridPos;
    const item = new SceneGridItem({ x, y, width: w, height: h, body: panelOf(json, placed) });
    if (row) row.setState({ children: [...row.state.children, item] });
    else children.push(item);
  }
  return children;
}

function panelOf(json: any, placed: Placed[]) {
  const runner = new SceneQueryRunner({
    datasource: json.datasource, queries: json.targets ?? [], maxDataPoints: json.maxDataPoints, minInterval: json.interval,
  });
  const panel = new VizPanel({
    pluginId: json.type, title: json.title, description: json.description, displayMode: json.transparent ? 'transparent' : 'default',
    options: json.options ?? {}, fieldConfig: json.fieldConfig ?? { defaults: {}, overrides: [] },
    $data: new SceneDataTransformer({ $data: runner, transformations: json.transformations ?? [] }),
  });
  placed.push({ json, panel });
  return panel;
}
