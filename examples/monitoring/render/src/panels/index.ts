import { sceneUtils } from '@grafana/scenes';
import { isFieldOption } from '../grafana';
import { STATE_OPTIONS, heatmap, stateTimeline } from './cells';
import { bargauge, stat } from './single';
import { COLUMN_OPTIONS, table } from './table';
import { SERIES_OPTIONS, timeseries } from './timeseries';

heatmap.useFieldConfig();
const PANELS: Record<string, { plugin: any; custom: Record<string, unknown> }> = {
  timeseries: { plugin: timeseries, custom: SERIES_OPTIONS },
  stat: { plugin: stat, custom: {} },
  bargauge: { plugin: bargauge, custom: {} },
  table: { plugin: table, custom: COLUMN_OPTIONS },
  heatmap: { plugin: heatmap, custom: {} },
  'state-timeline': { plugin: stateTimeline, custom: STATE_OPTIONS },
};

export function registerPanels() {
  for (const [pluginId, { plugin }] of Object.entries(PANELS)) sceneUtils.registerRuntimePanelPlugin({ pluginId, plugin });
}

/** What a panel asks for that would be left out of the picture without a word. */
export function unsupported(panel: any): string[] {
  const known = PANELS[panel.type];
  if (!known) return [`a panel of type ${panel.type}`];
  const has = (id: string) => id.startsWith('custom.') ? id.slice(7) in known.custom : isFieldOption(id);
  const asked = [
    ...Object.keys(panel.fieldConfig?.defaults ?? {}).filter((id) => id !== 'custom'),
    ...Object.keys(panel.fieldConfig?.defaults?.custom ?? {}).map((id) => `custom.${id}`),
    ...(panel.fieldConfig?.overrides ?? []).flatMap((override: any) => override.properties.map((property: any) => property.id)),
  ];
  return asked.filter((id) => !has(id)).map((id) => `the field option ${id}`);
}
