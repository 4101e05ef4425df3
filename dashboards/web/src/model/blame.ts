// Where to look: a bad column is a region's fault, a bad row its source's, a bad layer says how. Pure.
// The collector's own verdicts stand; this only reads together what it says of single cells.

import { cellsOf, type MeasuredCell, type Table } from './picture';
import type { CellState } from './wire';

const BAD: ReadonlySet<CellState> = new Set(['down', 'lossy', 'slow']);

/** From this share of its cells on a source is suspected itself, if it has at least so many. */
const SUSPECT_SHARE = 0.8;
const SUSPECT_CELLS = 3;

export const isBad = (cell: MeasuredCell): boolean => BAD.has(cell.state);

/** A cell's reason: what is seen, and what the layers beside it say. */
export function readReason(reason: string): { seen: string; layers: string | null } {
  const at = reason.indexOf('; ');
  return at < 0 ? { seen: reason, layers: null } : { seen: reason.slice(0, at), layers: reason.slice(at + 2) };
}

/** What most of the bad cells of a region say of their layers; figures differ from source to source and are left out. */
export function layersOf(table: Table, region: string): string | null {
  const column = cellsOf(table).filter(cell => cell.region === region && isBad(cell));
  const votes = new Map<string, number>();
  for (const { reason } of column) {
    const layers = readReason(reason).layers?.replace(/ \([^)]*\bms\b[^)]*\)/g, '');
    if (layers) votes.set(layers, (votes.get(layers) ?? 0) + 1);
  }
  return [...votes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? null;
}

/** A source that sees nearly everything bad while the others do not. */
export function suspects(table: Table): { source: string; bad: number; of: number }[] {
  const rows = table.rows.map((cells, row) => {
    const known = cells.filter(cell => cell.state !== 'unknown' && cell.state !== 'stale');
    return { source: table.sources[row] ?? '', bad: known.filter(isBad).length, of: known.length };
  });
  const all = rows.reduce((sum, row) => ({ bad: sum.bad + row.bad, of: sum.of + row.of }), { bad: 0, of: 0 });
  const alone = (row: (typeof rows)[number]) => all.bad - row.bad < 0.5 * (all.of - row.of);
  return rows.filter(row => row.of >= SUSPECT_CELLS && row.bad >= SUSPECT_SHARE * row.of && alone(row));
}

/** The worst first. */
export const worst = (states: Iterable<CellState>): CellState | null => {
  const order: CellState[] = ['down', 'lossy', 'slow', 'stale', 'unknown', 'ok'];
  const found = new Set(states);
  return order.find(state => found.has(state)) ?? null;
};
