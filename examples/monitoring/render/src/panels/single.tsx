// Panels of reduced values: stat and bargauge. The round gauge is not in the libraries.
import { type FieldDisplay, PanelPlugin, type PanelProps, VizOrientation, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BarGauge, BigValue } from '@grafana/ui';
import type { ReactElement } from 'react';
import { theme } from '../grafana';

function panel(draw: (value: FieldDisplay, size: { width: number; height: number }, props: PanelProps<any>, all: FieldDisplay[]) => ReactElement) {
  const plugin = new PanelPlugin((props: PanelProps<any>) => {
    const { data, fieldConfig, options, replaceVariables, width, height } = props;
    const values = getFieldDisplayValues({
      fieldConfig, replaceVariables, theme, data: data.series, sparkline: true, timeZone: 'utc',
      reduceOptions: { values: false, calcs: ['lastNotNull'], ...options.reduceOptions },
    });
    const across = (options.orientation ?? 'auto') === 'auto' ? width > height : options.orientation === 'vertical';
    const gap = 8 * (values.length - 1);
    const size = across
      ? { width: (width - gap) / values.length, height }
      : { width, height: (height - gap) / values.length };
    return (
      <div style={{ display: 'flex', flexDirection: across ? 'row' : 'column', gap: 8, width, height }}>
        {values.map((value, index) => <div key={index}>{draw(value, size, props, values)}</div>)}
      </div>
    );
  });
  plugin.useFieldConfig();
  return plugin;
}

export const stat = panel(({ display, sparkline }, size, { options }, all) => (
  <BigValue {...size} value={display} count={all.length} theme={theme} text={options.text}
    sparkline={options.graphMode === 'none' ? undefined : sparkline}
    colorMode={options.colorMode ?? 'value'} graphMode={options.graphMode ?? 'area'}
    justifyMode={options.justifyMode ?? 'auto'} textMode={options.textMode ?? 'auto'} />
));

export const bargauge = panel(({ display, field, view, colIndex }, size, { options }, all) => (
  <BarGauge {...size} theme={theme} value={display} field={field}
    display={view?.getFieldDisplayProcessor(colIndex ?? 0)} text={options.text}
    orientation={options.orientation === 'horizontal' ? VizOrientation.Horizontal : VizOrientation.Vertical}
    displayMode={options.displayMode ?? 'gradient'} showUnfilled={options.showUnfilled ?? true}
    valueDisplayMode={options.valueMode ?? 'color'} namePlacement={options.namePlacement ?? 'auto'}
    alignmentFactors={getDisplayValueAlignmentFactors(all)} />
));
