// Heatmap and state timeline. Neither is in Grafana's libraries, so their cells are drawn here, on the libraries' axes.
import { type DataFrame, type Field, FieldType, PanelPlugin, type PanelProps, formattedValueToString, getFieldDisplayName, getValueFormat } from '@grafana/data';
import { AxisPlacement, ScaleDirection, ScaleOrientation, UPlotChart, UPlotConfigBuilder } from '@grafana/ui';
import { useMemo } from 'react';
import { fieldOption, theme } from '../grafana';

type Cell = { from: number; to: number; row: number; color: string; text?: string };
type Sheet = { rows: number; cells: Cell[]; ticks: { at: number; text: string }[]; gap: number };

const values = (frame: DataFrame, type: FieldType): Field | undefined => frame.fields.find((field) => field.type === type);
const stepOf = (frame: DataFrame) => values(frame, FieldType.time)?.config.interval ?? 15_000;

function Cells({ sheet, props, height }: { sheet: Sheet; props: PanelProps<any>; height: number }) {
  const { timeRange, width } = props;
  const range: [number, number] = [timeRange.from.valueOf(), timeRange.to.valueOf()];
  const config = useMemo(() => {
    const builder = new UPlotConfigBuilder('utc');
    const horizontal = { orientation: ScaleOrientation.Horizontal, direction: ScaleDirection.Right };
    const vertical = { orientation: ScaleOrientation.Vertical, direction: ScaleDirection.Up };
    builder.addScale({ scaleKey: 'x', isTime: true, ...horizontal, range: () => range });
    builder.addScale({ scaleKey: 'y', ...vertical, range: () => [0, sheet.rows] });
    builder.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, timeZone: 'utc', theme, grid: { show: false } });
    builder.addAxis({
      scaleKey: 'y', placement: AxisPlacement.Left, theme, grid: { show: false }, ticks: { show: false },
      splits: sheet.ticks.map(({ at }) => at), values: sheet.ticks.map(({ text }) => text),
    });
    builder.setPrepData(() => [range, [null, null]] as any);
    builder.addHook('draw', (plot: any) => draw(plot, sheet));
    return builder;
  }, [sheet, range[0], range[1]]);
  return <UPlotChart config={config} data={[range, [null, null]] as any} width={width} height={height} />;
}

function draw(plot: any, { cells, gap }: Sheet) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.font = `12px ${theme.typography.fontFamily}`;
  ctx.textAlign = 'left';
  ctx.textBaseline = 'middle';
  for (const { from, to, row, color, text } of cells) {
    const [left, right] = [plot.valToPos(from, 'x', true), plot.valToPos(to, 'x', true)];
    const [bottom, top] = [plot.valToPos(row + gap, 'y', true), plot.valToPos(row + 1 - gap, 'y', true)];
    ctx.fillStyle = color;
    ctx.fillRect(left, top, Math.max(1, right - left - (gap ? 0 : 1)), Math.max(1, bottom - top - (gap ? 0 : 1)));
    if (text && ctx.measureText(text).width + 8 < right - left) {
      ctx.fillStyle = theme.colors.getContrastText(color);
      ctx.fillText(text, Math.max(left, bbox.left) + 4, (top + bottom) / 2);
    }
  }
  ctx.restore();
}

/** The colours of Grafana's default scheme for heatmaps on a dark ground. */
const SCHEMES: Record<string, string[]> = {
  Oranges: ['#7f2704', '#a63603', '#d94801', '#f16913', '#fd8d3c', '#fdae6b', '#fdd0a2', '#fee6ce', '#fff5eb'],
};

function mix(scheme: string[], share: number) {
  const place = Math.min(0.9999, Math.max(0, share)) * (scheme.length - 1);
  const channel = (text: string, index: number) => parseInt(text.slice(1 + 2 * index, 3 + 2 * index), 16);
  const between = (index: number) => {
    const [low, high] = [channel(scheme[Math.floor(place)], index), channel(scheme[Math.floor(place) + 1], index)];
    return Math.round(low + (high - low) * (place % 1));
  };
  return `rgb(${between(0)}, ${between(1)}, ${between(2)})`;
}

export const heatmap = new PanelPlugin((props: PanelProps<any>) => {
  const { data: { series }, options, height } = props;
  const scheme = SCHEMES[options.color?.scheme ?? 'Oranges'];
  const { sheet, most } = useMemo(() => {
    const format = getValueFormat(options.yAxis?.unit ?? 'short');
    const counts = series.map((frame) => [...(values(frame, FieldType.number)?.values ?? [])] as number[]);
    const most = Math.max(0, ...counts.flat().filter(Number.isFinite));
    const cells = series.flatMap((frame, row) => {
      const times = values(frame, FieldType.time)?.values ?? [];
      return counts[row].flatMap((count, index): Cell[] => !(count > (options.filterValues?.le ?? 1e-9)) ? [] : [{
        from: times[index] - stepOf(frame), to: times[index], row, color: mix(scheme, (count / most) ** (options.color?.exponent ?? 0.5)),
      }]);
    });
    const every = Math.ceil(series.length / Math.max(2, height / 30));
    const ticks = series.map((frame, row) => {
      const bound = values(frame, FieldType.number)?.labels?.le ?? '';
      const text = bound.includes('Inf') ? '+Inf' : formattedValueToString(format(Number(bound), options.yAxis?.decimals));
      return { at: row + 1, text };
    }).filter((_, row) => row % every === every - 1);
    return { most, sheet: { rows: series.length, cells, ticks, gap: 0 } };
  }, [series, options, height]);
  if (!series.length) return <div className="no-data">{props.fieldConfig.defaults.noValue ?? 'No data'}</div>;
  return (
    <div>
      <Cells sheet={sheet} props={props} height={height - 26} />
      {options.legend?.show !== false && <div className="heatmap-legend">
        <span>0</span>
        <i style={{ background: `linear-gradient(to right, ${Array.from({ length: 12 }, (_, index) => mix(scheme, (index / 11) ** (options.color?.exponent ?? 0.5))).join(', ')})` }} />
        <span>{formattedValueToString(getValueFormat('short')(most, most < 10 ? 1 : 0))}</span>
      </div>}
    </div>
  );
});

export const STATE_OPTIONS: Record<string, unknown> = { fillOpacity: 70, lineWidth: 0, spanNulls: false, insertNulls: false, hideFrom: undefined };

export const stateTimeline = new PanelPlugin((props: PanelProps<any>) => {
  const { data: { series }, height, options } = props;
  const sheet = useMemo(() => {
    const rows = [...series].reverse();
    const cells = rows.flatMap((frame, row) => {
      const field = values(frame, FieldType.number)!;
      const times = values(frame, FieldType.time)!.values;
      const runs: (Cell & { value: unknown })[] = [];
      field.values.forEach((value: number | null, index: number) => {
        if (value === null) return;
        const last = runs.at(-1);
        const to = times[index] + stepOf(frame);
        if (last && last.value === value && last.to >= times[index]) last.to = to;
        else {
          const shown = field.display!(value);
          // As Grafana does with values that are told by their steps alone.
          if (options.showValue === 'never' && last && last.color === shown.color && last.to >= times[index]) { last.to = to; last.value = value; return; }
          const text = options.showValue === 'never' ? undefined : formattedValueToString(shown);
          runs.push({ from: times[index], to, row, color: shown.color ?? '#888', text, value });
        }
      });
      return runs;
    });
    const ticks = rows.map((frame, row) => ({ at: row + 0.5, text: getFieldDisplayName(values(frame, FieldType.number)!, frame, series) }));
    return { rows: rows.length, cells, ticks, gap: (1 - (options.rowHeight ?? 0.9)) / 2 };
  }, [series, options]);
  if (!series.length) return <div className="no-data">{props.fieldConfig.defaults.noValue ?? 'No data'}</div>;
  if (!options.legend?.showLegend) return <Cells sheet={sheet} props={props} height={height} />;
  const { thresholds, unit, decimals } = props.fieldConfig.defaults;
  const step = ({ value }: { value: number }) => `${formattedValueToString(getValueFormat(unit)(Number.isFinite(value) ? value : 0, decimals))}+`;
  return (
    <div>
      <Cells sheet={sheet} props={props} height={height - 26} />
      <div className="heatmap-legend">
        {thresholds?.steps.map((one, index) => <span key={index}><i style={{ background: theme.visualization.getColorByName(one.color), display: 'inline-block', width: 16 }} /> {step(one)}</span>)}
      </div>
    </div>
  );
});
stateTimeline.useFieldConfig({
  useCustomConfig: (builder: any) => {
    for (const [id, value] of Object.entries(STATE_OPTIONS)) builder.addCustomEditor(fieldOption(id, (next: unknown) => next, value));
  },
});
