import { expect, it } from 'vitest';
import { tableOf } from './picture';
import { picture } from './sample';
import { withFigures } from './window';

const table = tableOf(picture({ fra: 'x.', iad: '..' }), 'voice')!;

it('lays the figures of another window over the table, by name, and leaves the states', () => {
  const figures = { service: 'voice', sources: ['iad', 'fra'], regions: ['fra', 'gru'], state: [], p50_ms: [1, 2, 3, 4], p95_ms: [], p99_ms: [], loss: [], samples: [9, 9, 9, 9], age_s: [], reason: [], as_of: '' };
  const rows = withFigures(table, figures).rows.map(row => row.map(({ p50_ms, state }) => [p50_ms, state]));
  expect(rows).toEqual([[[3, 'down'], [4, 'ok']], [[1, 'ok'], [2, 'ok']]]);
});

it('shows no figures of one window under the name of another', () => {
  expect(withFigures(table, null).rows.flat().every(({ p50_ms }) => p50_ms === null)).toBe(true);
});
