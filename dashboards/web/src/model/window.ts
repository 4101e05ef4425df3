// Figures over another window than the stream's, laid over the table. The states stay: they are judged, not looked up.

import type { Table } from './picture';
import type { Matrix } from './wire';

/** Until the answer is there, figures of this window are not known; those of another are not shown in their place. */
export function withFigures(table: Table, figures: Matrix | null): Table {
  const at = new Map<string, number>();
  figures?.sources.forEach((source, row) => figures.regions.forEach((region, column) => at.set(`${source}/${region}`, row * figures.regions.length + column)));
  const rows = table.rows.map(row => row.map(cell => {
    const index = at.get(`${cell.source}/${cell.region}`) ?? -1;
    const figure = (field: 'p50_ms' | 'p95_ms' | 'p99_ms' | 'loss') => figures?.[field][index] ?? null;
    return { ...cell, p50_ms: figure('p50_ms'), p95_ms: figure('p95_ms'), p99_ms: figure('p99_ms'), loss: figure('loss'), samples: figures?.samples[index] ?? 0 };
  }));
  return { ...table, rows };
}
