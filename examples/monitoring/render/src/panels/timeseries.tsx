import { PanelPlugin, type PanelProps } from '@grafana/data';
import { TimeSeries, type UPlotConfigBuilder } from '@grafana/ui';
import { fieldOption, theme } from '../grafana';

/** The options of a series that are drawn, with Grafana's defaults. A dashboard that sets another is refused. */
export const SERIES_OPTIONS: Record<string, unknown> = {
  drawStyle: 'line', lineWidth: 1, lineInterpolation: 'linear', lineStyle: { fill: 'solid' }, fillOpacity: 0,
  fillBelowTo: undefined, gradientMode: 'none', showPoints: 'auto', pointSize: 5, spanNulls: false, insertNulls: false,
  stacking: { mode: 'none', group: 'A' }, scaleDistribution: { type: 'linear' }, thresholdsStyle: { mode: 'off' },
  axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text', axisBorderShow: false, axisCenteredZero: false,
  axisSoftMin: undefined, axisSoftMax: undefined, axisGridShow: undefined, barAlignment: 0, barWidthFactor: 0.6,
  hideFrom: { legend: false, tooltip: false, viz: false },
};

const annotated = new WeakSet<UPlotConfigBuilder>();

export const timeseries = new PanelPlugin((props: PanelProps<any>) => {
  const { data, fieldConfig, timeRange, width, height, options } = props;
  if (!data.series.length) return <div className="no-data">{fieldConfig.defaults.noValue ?? 'No data'}</div>;
  return (
    <TimeSeries key={annotationTimes(data.annotations).join()} frames={data.series} timeRange={timeRange} timeZone="utc" width={width} height={height}
      legend={{ showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [], ...options.legend }}>
      {(config: UPlotConfigBuilder) => {
        if (!annotated.has(config)) config.addHook('draw', drawAnnotations(data.annotations ?? []));
        annotated.add(config);
        return null;
      }}
    </TimeSeries>
  );
});
timeseries.setDataSupport({ annotations: true });
timeseries.useFieldConfig({
  useCustomConfig: (builder: any) => {
    for (const [id, value] of Object.entries(SERIES_OPTIONS)) builder.addCustomEditor(fieldOption(id, (next: unknown) => next, value));
  },
});

const annotationTimes = (frames: any[] = []): number[] =>
  frames.flatMap((frame) => frame.fields.find((field: any) => field.name === 'time')?.values ?? []);

/** Dashed lines with a mark at the foot: Grafana's own plugin for them is not in the libraries. */
function drawAnnotations(frames: any[]) {
  const column = (frame: any, name: string) => frame.fields.find((field: any) => field.name === name)?.values ?? [];
  return (plot: any) => {
    const { ctx, bbox } = plot;
    const foot = bbox.top + bbox.height;
    ctx.save();
    for (const frame of frames) {
      const colors = column(frame, 'color');
      column(frame, 'time').forEach((time: number, index: number) => {
        const x = Math.round(plot.valToPos(time, 'x', true)) + 0.5;
        if (x < bbox.left || x > bbox.left + bbox.width) return;
        ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(colors[index] ?? 'blue');
        ctx.setLineDash([4, 4]);
        ctx.stroke(new Path2D(`M${x} ${bbox.top} V${foot}`));
        ctx.fill(new Path2D(`M${x} ${foot} l-5 5 h10 Z`));
      });
    }
    ctx.restore();
  };
}
