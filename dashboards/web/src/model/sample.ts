// For tests: small pictures, in the shapes in which the collector tells them.

import type { Cell, CellState, Health, Hint, Region, StreamEvent } from './wire';
import { BLANK, fold, type Picture } from './picture';
import type { Known } from './mode';

export const NOW = Date.parse('2026-11-24T14:02:30.000Z');

export const cell = (source: string, region: string, state: CellState = 'ok', more: Partial<Cell> = {}): Cell => ({
  service: 'voice', source, region, state, p50_ms: 20, p95_ms: 25, p99_ms: 30, loss: 0, samples: 60, age_s: 5, reason: 'as usual', ...more,
});

export const region = (name: string, health: Health = 'healthy', more: Partial<Region> = {}): Region => ({
  service: 'voice', region: name, health, reason: 'all 3 sources see it well', since: '2026-11-24T14:02:10.000Z', vantages: { eligible: 3, bad: 0 }, ...more,
});

export const hint = (source: string, more: Partial<Hint> = {}): Hint => ({
  source, service: 'voice', epoch: '1', version: 4, mode: 'enforce', basis: 'measured', ranked: [], excluded: [],
  generated_at: '2026-11-24T14:02:29.000Z', stale_after: '2026-11-24T14:02:59.000Z', valid_until: '2026-11-25T14:02:29.000Z',
  stability: { incumbent: null, since: '2026-11-24T14:00:00.000Z', challenger: null, margin_ms: null, wins: 0 }, ...more,
});

export const event = (number: number, items: unknown[], more: Partial<StreamEvent> = {}): StreamEvent => ({
  kind: 'snapshot', number, as_of: new Date(NOW).toISOString(), items, gone: [], ...more,
});

/** A picture from a strip for each source: `.` ok, `x` down, `l` lossy, `s` slow, `~` stale, blank unknown. */
export function picture(strips: Record<string, string>, regions: Region[] = []): Picture {
  const states: Record<string, CellState> = { '.': 'ok', x: 'down', l: 'lossy', s: 'slow', '~': 'stale', ' ': 'unknown' };
  const names = ['fra', 'gru', 'iad', 'sin', 'syd'];
  const cells = Object.entries(strips).flatMap(([source, strip]) => [...strip].map((mark, i) => {
    const state = states[mark] ?? 'unknown';
    return cell(source, names[i] ?? '', state, state === 'unknown' ? { age_s: null } : {});
  }));
  const first = fold(BLANK, 'matrix', event(1, cells));
  return fold(first, 'regions', event(2, regions));
}

export const known = (picture: Picture, more: Partial<Known> = {}): Known => ({ picture, line: { is: 'open' }, clock: { offset: NOW }, heard: 0, ...more });
