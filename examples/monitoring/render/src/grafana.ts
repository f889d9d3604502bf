// What a Grafana server's own front end sets up before it shows a dashboard, as far as panels need it.
import * as data from '@grafana/data';
import { config, setAppEvents, setDataSourceSrv, setPluginImportUtils, setRunRequest, setTemplateSrv } from '@grafana/runtime';
import { catchError, from, map, of } from 'rxjs';

export const theme = data.createTheme({ colors: { mode: 'dark' } });

/** The standard field options, and how an override of each is read. */
const FIELD_OPTIONS: Record<string, (value: any, context: any, settings?: any) => any> = {
  unit: data.unitOverrideProcessor,
  displayName: data.displayNameOverrideProcessor,
  thresholds: data.thresholdsOverrideProcessor,
  mappings: data.valueMappingsOverrideProcessor,
  min: data.identityOverrideProcessor,
  max: data.identityOverrideProcessor,
  decimals: data.identityOverrideProcessor,
  color: data.identityOverrideProcessor,
  noValue: data.identityOverrideProcessor,
  links: data.identityOverrideProcessor,
};

export const fieldOption = (id: string, process: any, defaultValue?: unknown): any => ({
  id, path: id, name: id, process, defaultValue,
  editor: () => null, override: () => null, shouldApply: () => true, getItemsCount: () => 0,
});

export const isFieldOption = (id: string) => id in FIELD_OPTIONS;

export function install(source: data.DataSourceApi) {
  Object.assign(config, {
    theme2: theme,
    bootData: { user: { timezone: 'utc', locale: 'en-US', permissions: {} }, settings: {}, navTree: [] },
  });
  data.standardEditorsRegistry.setInit(() =>
    ['number', 'slider', 'text', 'boolean', 'select', 'radio', 'unit', 'color', 'multi-select', 'stats-picker', 'strings',
      'timezone', 'fieldColor', 'links', 'thresholds', 'mappings', 'field-name', 'dashboard-uid', 'multi-field-name',
      'actions'].map((id) => ({ id, name: id, editor: () => null })) as any);
  data.standardFieldConfigEditorRegistry.setInit(() =>
    Object.entries(FIELD_OPTIONS).map(([id, process]) => fieldOption(id, process)));
  data.standardTransformersRegistry.setInit(() =>
    Object.values(data.standardTransformers).map((transformation: any) => ({
      id: transformation.id, name: transformation.name, transformation: async () => transformation, editor: () => null,
    })).filter(({ id }, index, all) => all.findIndex((one) => one.id === id) === index) as any);

  setAppEvents(new data.EventBusSrv());
  setTemplateSrv({
    replace: (text?: string) => text ?? '', getVariables: () => [], containsTemplate: () => false, updateTimeRange: () => {},
  } as any);
  const settings = { uid: source.uid, name: 'Prometheus', type: 'prometheus', meta: { id: 'prometheus', name: 'Prometheus' } };
  setDataSourceSrv({
    get: async () => source, getList: () => [settings], getInstanceSettings: () => settings,
  } as any);
  setPluginImportUtils({
    importPanelPlugin: async (id: string) => { throw new Error(`this renderer has no panel of type ${id}`); },
    getPanelPluginFromCache: () => undefined,
  } as any);
  setRunRequest(((ds: data.DataSourceApi, request: data.DataQueryRequest) =>
    from(Promise.resolve(ds.query(request) as any)).pipe(
      map((answer: any) => ({ state: data.LoadingState.Done, series: answer.data, timeRange: request.range, request })),
      catchError((error) => of({ state: data.LoadingState.Error, series: [], error, errors: [error], timeRange: request.range, request })),
    )) as any);
}
