import { expect, it } from 'vitest';
import { lines } from './hint';
import { hint, NOW } from './sample';
import type { Ranked } from './wire';

const ranked = (region: string, rank: number, reason: string): Ranked => ({
  region, rank, reason, weight: 0, cost_ms: 5, cost_ci_ms: null, p50_ms: 4, p75_ms: 4, p95_ms: 5, loss: 0, jitter_ms: 0, mos: null, samples: 60, age_s: 4, addresses: [],
});
const told = (...arguments_: Parameters<typeof lines>) => lines(...arguments_).map(({ head, text }) => `${head} ${text}`);

it('says why the first is first, since when, and why the chosen one is not', () => {
  const two = hint('fra', {
    ranked: [ranked('fra', 1, 'lowest cost, 8.1 ms before ams'), ranked('ams', 2, '+8.1 ms against the first')],
    stability: { incumbent: 'fra', since: '2026-11-24T14:00:00.000Z', challenger: null, margin_ms: null, wins: 0 },
  });
  expect(told(two, 'ams', NOW)).toEqual([
    'Why fra. Lowest cost, 8.1 ms before ams. First for 2 min 30 s.',
    'Why not ams. +8.1 ms against the first.',
  ]);
});

it('says what is unusual: its basis, its age, its mode, and who is left out', () => {
  const odd = hint('fra', { basis: 'fail_open', mode: 'shadow', stale_after: '2026-11-24T14:02:00.000Z', excluded: [{ region: 'gru', reason: 'down: 3 of 3 sources get no reply' }] });
  expect(told(odd, null, NOW).map(line => line.split(' ')[0])).toEqual(['Stale.', 'Basis.', 'Shadow.', 'Out.']);
});

it('tells a reason that is news from a distance that the figures show', () => {
  const names = ['ams', 'bog', 'gru', 'iad', 'sin'];
  const quiet = hint('fra', { ranked: names.map((name, i) => ranked(name, i + 1, i === 1 ? '+8.1 ms against the first' : 'no fresh data')) });
  expect(told(quiet, null, NOW).at(-1)).toBe('Behind. gru, iad and sin: no fresh data.');
});
