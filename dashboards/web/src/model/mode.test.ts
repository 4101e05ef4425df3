import { describe, expect, it } from 'vitest';
import { modeOf, pictureAge } from './mode';
import { BLANK } from './picture';
import { known, NOW, picture } from './sample';

const well = picture({ fra: '..', iad: '..' });
const lost = { is: 'lost', detail: 'no connection', since: 1000, again: 9000 } as const;

describe('whether the picture may be believed', () => {
  it('is loading until the collector has said anything', () => {
    expect(modeOf(known(BLANK, { line: { is: 'connecting' }, clock: null, heard: null }), 0)).toBe('loading');
  });

  it('is disconnected at once where there is nothing to show, and only after a while where there is', () => {
    expect(modeOf(known(BLANK, { line: lost, clock: null }), 1001)).toBe('disconnected');
    expect(modeOf(known(well, { line: lost }), 2000)).toBe('live');
    expect(modeOf(known(well, { line: lost }), 4000)).toBe('disconnected');
  });

  it('is refused where there is an answer that is an error', () => {
    expect(modeOf(known(well, { line: { is: 'refused', status: 503, detail: 'starting', since: 0, again: 9000 } }), 4000)).toBe('refused');
  });

  it('is empty while nothing has been measured', () => {
    expect(modeOf(known(picture({ fra: '  ' })), 0)).toBe('empty');
  });

  it('is stale when every cell that was ever measured is, and not for one that is', () => {
    expect(modeOf(known(picture({ fra: '~~', iad: '~ ' })), 0)).toBe('stale');
    expect(modeOf(known(picture({ fra: '~~', iad: '~.' })), 0)).toBe('live');
  });

  it('is stale when the collector speaks and its conclusions stand still', () => {
    expect(modeOf(known(well), 9000)).toBe('live');
    expect(modeOf(known(well), 11_000)).toBe('stale');
  });

  it('grows old by the clock of the collector, whatever the clock here says', () => {
    expect(pictureAge(known(well, { clock: { offset: NOW + 300 } }), 1000)).toBeCloseTo(1.3);
  });
});
