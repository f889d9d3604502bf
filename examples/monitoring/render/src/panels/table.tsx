import { PanelPlugin, type PanelProps, cacheFieldDisplayNames } from '@grafana/data';
import { TableNG } from '@grafana/ui/unstable';
import { fieldOption } from '../grafana';

export const COLUMN_OPTIONS: Record<string, unknown> = {
  width: undefined, minWidth: 50, align: 'auto', cellOptions: { type: 'auto' }, wrapText: false, filterable: false, inspect: false,
};

export const table = new PanelPlugin(({ data, width, height, options, fieldConfig }: PanelProps<any>) => {
  const frame = data.series[0];
  cacheFieldDisplayNames(frame ? [frame] : []);
  if (!frame?.length) return <div className="no-data">{fieldConfig.defaults.noValue ?? 'No data'}</div>;
  return <TableNG data={frame} width={width} height={height} sortBy={options.sortBy} initialSortBy={options.sortBy} cellHeight={options.cellHeight}
    fieldConfig={fieldConfig} noHeader={options.showHeader === false} />;
});
table.useFieldConfig({
  useCustomConfig: (builder: any) => {
    for (const [id, value] of Object.entries(COLUMN_OPTIONS)) builder.addCustomEditor(fieldOption(id, (next: unknown) => next, value));
  },
});
