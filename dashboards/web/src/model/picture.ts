// What the page knows: a fold of the collector's stream. Pure. Maps are replaced, never changed, and an item that did not
// change stays the same object, so that who shows it need not look twice.

import type { Cell, CellState, Health, Hint, Region, StreamEvent } from './wire';

export interface Picture {
  /** By service, then by `source/region`. */
  cells: ReadonlyMap<string, ReadonlyMap<string, MeasuredCell>>;
  /** By `service/region`. */
  regions: ReadonlyMap<string, Region>;
  /** By `service/source`. */
  hints: ReadonlyMap<string, Hint>;
  /** The collector's time of the newest event, in epoch ms. */
  asOf: number | null;
}

export interface MeasuredCell extends Cell {
  /** When its newest sample was taken, in epoch ms by the collector's clock. */
  newest: number | null;
}

export const TOPICS = ['regions', 'matrix', 'hints'] as const;
export type Topic = (typeof TOPICS)[number];

export const BLANK: Picture = { cells: new Map(), regions: new Map(), hints: new Map(), asOf: null };

export function fold(picture: Picture, topic: string, event: StreamEvent): Picture {
  const asOf = Date.parse(event.as_of);
  const next = { ...picture, asOf };
  if (event.kind === 'mark') return next;
  const fresh = event.kind === 'snapshot';
  switch (topic) {
    case 'regions':
      next.regions = merge(fresh ? null : picture.regions, event.items as Region[], event.gone, region => `${region.service}/${region.region}`);
      break;
    case 'hints':
      next.hints = merge(fresh ? null : picture.hints, event.items as Hint[], event.gone, hint => `${hint.service}/${hint.source}`);
      break;
    case 'matrix':
      next.cells = foldCells(fresh ? new Map() : picture.cells, event, asOf);
      break;
  }
  return next;
}

function merge<T>(old: ReadonlyMap<string, T> | null, items: readonly T[], gone: readonly string[], key: (item: T) => string): Map<string, T> {
  const next = new Map(old);
  for (const item of items) next.set(key(item), item);
  for (const name of gone) next.delete(name);
  return next;
}

/** A service's cells stay the same map while none of them changes. */
function foldCells(old: Picture['cells'], event: StreamEvent, asOf: number): Picture['cells'] {
  const next = new Map(old);
  const open = new Map<string, Map<string, MeasuredCell>>();
  const of = (service: string) => {
    const cells = open.get(service) ?? new Map(next.get(service));
    open.set(service, cells);
    return cells;
  };
  for (const cell of event.items as Cell[]) {
    of(cell.service).set(`${cell.source}/${cell.region}`, { ...cell, newest: cell.age_s == null ? null : asOf - cell.age_s * 1000 });
  }
  for (const name of event.gone) {
    const [service = '', ...rest] = name.split('/');
    of(service).delete(rest.join('/'));
  }
  for (const [service, cells] of open) cells.size ? next.set(service, cells) : next.delete(service);
  return next;
}

/** A service's cells as a table: rows are sources, columns regions. */
export interface Table {
  service: string;
  sources: string[];
  regions: string[];
  rows: MeasuredCell[][];
}

export const cellsOf = (table: Table): MeasuredCell[] => table.rows.flat();

export function tableOf(picture: Picture, service: string | null): Table | null {
  const cells = service == null ? undefined : picture.cells.get(service);
  if (service == null || !cells?.size) return null;
  const names = (field: 'source' | 'region') => [...new Set([...cells.values()].map(cell => cell[field]))].sort();
  const [sources, regions] = [names('source'), names('region')];
  const at = (source: string, region: string) => cells.get(`${source}/${region}`) ?? notMeasured(service, source, region);
  return { service, sources, regions, rows: sources.map(source => regions.map(region => at(source, region))) };
}

function notMeasured(service: string, source: string, region: string): MeasuredCell {
  const nothing = { p50_ms: null, p95_ms: null, p99_ms: null, loss: null, age_s: null, newest: null };
  return { service, source, region, state: 'unknown', samples: 0, reason: 'nothing measured yet', ...nothing };
}

/** Every service that anything is known of. */
export function servicesOf(picture: Picture): Set<string> {
  const regions = [...picture.regions.values()].map(region => region.service);
  const hints = [...picture.hints.values()].map(hint => hint.service);
  return new Set([...regions, ...picture.cells.keys(), ...hints]);
}

export const regionsOf = (picture: Picture, service: string | null): Region[] =>
  [...picture.regions.values()].filter(region => region.service === service).sort((a, b) => a.region.localeCompare(b.region));

/** What all cells together say. Asked for many times a second, and the same while no cell changes. */
export interface Freshness {
  /** When the newest sample of anything was taken. */
  newest: number | null;
  /** Whether everything that was ever measured is stale: the collector says so, which knows how wide windows are. */
  silent: boolean;
}

const freshness = new WeakMap<Picture['cells'], Freshness>();

export function freshnessOf({ cells }: Picture): Freshness {
  const known = freshness.get(cells);
  if (known) return known;
  const all = [...cells.values()].flatMap(of => [...of.values()]);
  const newest = all.reduce<number | null>((newest, cell) => (cell.newest == null ? newest : Math.max(newest ?? 0, cell.newest)), null);
  const measured = all.filter(cell => cell.state !== 'unknown');
  const fresh = { newest, silent: measured.length > 0 && measured.every(cell => cell.state === 'stale') };
  freshness.set(cells, fresh);
  return fresh;
}

/** Beside its colour each state has a mark, so that it is never told by colour alone. */
export const MARKS: Record<CellState, string> = { ok: '·', slow: '▴', lossy: '◌', down: '✕', unknown: '?', stale: '⋯' };
export const STATE_WORDS: Record<CellState, string> = {
  ok: 'ok', slow: 'slow for this path', lossy: 'lossy', down: 'down', unknown: 'unknown', stale: 'stale',
};
export const HEALTH_MARKS: Record<Health, string> = { healthy: '·', degraded: '▴', down: '✕', unknown: '?' };
/** From worst to best. */
export const HEALTHS: readonly Health[] = ['down', 'degraded', 'unknown', 'healthy'];
