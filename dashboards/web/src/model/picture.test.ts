import { describe, expect, it } from 'vitest';
import { BLANK, cellsOf, fold, servicesOf, tableOf } from './picture';
import { cell, event, hint, NOW, region } from './sample';

const start = fold(BLANK, 'matrix', event(1, [cell('fra', 'iad'), cell('fra', 'gru'), cell('iad', 'gru'), cell('iad', 'iad')]));

describe('the fold of the stream', () => {
  it('takes a snapshot as all there is', () => {
    const after = fold(start, 'matrix', event(1, [cell('sin', 'syd')]));
    expect(cellsOf(tableOf(after, 'voice')!).map(({ source, region }) => [source, region])).toEqual([['sin', 'syd']]);
  });

  it('takes a change as what differs, and keeps every other cell the same object', () => {
    const after = fold(start, 'matrix', event(2, [cell('fra', 'iad', 'down')], { kind: 'change' }));
    const [before, now] = [tableOf(start, 'voice')!, tableOf(after, 'voice')!];
    expect(now.rows[0]?.[1]?.state).toBe('down');
    expect(now.rows[0]?.[0]).toBe(before.rows[0]?.[0]);
    expect(before.rows[0]?.[1]?.state).toBe('ok');
  });

  it('forgets what is gone, and the service with its last cell', () => {
    const gone = ['voice/fra/iad', 'voice/fra/gru', 'voice/iad/gru', 'voice/iad/iad'];
    expect(tableOf(fold(start, 'matrix', event(2, [], { kind: 'change', gone: gone.slice(0, 2) })), 'voice')?.sources).toEqual(['iad']);
    expect(servicesOf(fold(start, 'matrix', event(2, [], { kind: 'change', gone })))).toEqual(new Set());
  });

  it('moves only the time at a mark', () => {
    const after = fold(start, 'mark', event(2, [], { kind: 'mark', as_of: '2026-11-24T14:02:31.000Z' }));
    expect(after).toEqual({ ...start, asOf: NOW + 1000 });
  });

  it('dates a cell by when it was told, so that its age grows on', () => {
    expect(tableOf(start, 'voice')?.rows[0]?.[0]?.newest).toBe(NOW - 5000);
  });

  it('knows a service by its regions, its cells or its hints', () => {
    const after = fold(fold(start, 'regions', event(2, [region('fra', 'healthy', { service: 'cdn' })])), 'hints', event(3, [hint('fra', { service: 'gateway' })]));
    expect(servicesOf(after)).toEqual(new Set(['voice', 'cdn', 'gateway']));
  });

  it('leaves no hole where a source has no cell', () => {
    const after = fold(BLANK, 'matrix', event(1, [cell('fra', 'iad'), cell('iad', 'gru')]));
    expect(tableOf(after, 'voice')?.rows.map(row => row.map(({ state }) => state))).toEqual([['unknown', 'ok'], ['ok', 'unknown']]);
  });
});
