import { expect, it } from 'vitest';
import { clock, duration, lasted, listing, ms, percent, roughly, sentence } from './write';

it('writes as many digits as the eye can use', () => {
  expect([0.74, 9.94, 9.96, 212.4, null].map(ms)).toEqual(['0.7', '9.9', '10', '212', '–']);
});

it('never writes a loss that is not zero as zero', () => {
  expect([0, 0.0004, 0.012, 0.42, 1, null].map(percent)).toEqual(['0 %', '<0.1 %', '1.2 %', '42 %', '100 %', '–']);
});

it('writes how long by the units that matter', () => {
  expect([0.44, 9.97, 75, 7300, 90_000].map(duration)).toEqual(['0.4 s', '10 s', '1 min 15 s', '2 h 1 min', '1 d 1 h']);
  expect([0.4, 59.9, -3].map(lasted)).toEqual(['0 s', '59 s', '0 s']);
  expect([59, 3700].map(roughly)).toEqual(['59 s', '1 h']);
});

it('writes the day only of another day', () => {
  const now = Date.parse('2026-11-24T00:10:00Z');
  expect([clock(Date.parse('2026-11-24T00:02:10Z'), now), clock(Date.parse('2026-11-23T23:59:00Z'), now), clock(NaN, now)]).toEqual(['00:02:10', '23 Nov 23:59', '–']);
});

it('makes a sentence of a reason, and of names a list', () => {
  expect(sentence('no data since 2026-11-24T14:02:10.123Z')).toBe('no data since 2026-11-24 14:02:10.');
  expect(listing(['a', 'b', 'c', 'd'])).toBe('a, b and 2 more');
});
