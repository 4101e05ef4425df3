import { describe, expect, it } from 'vitest';
import { modeOf, type Known } from './mode';
import { say as sayIn, sayLive } from './say';
import { BLANK, fold } from './picture';
import { cell, event, known, picture, region } from './sample';

const say = (what: Known, service: string, agents: number, now: number) => sayIn(what, modeOf(what, now), service, agents, now);
const spoken = (what: Parameters<typeof known>[0], agents = 3, more: Parameters<typeof known>[1] = {}) => {
  const { tone, strong, rest } = say(known(what, more), 'voice', agents, 500);
  return [tone, strong + rest];
};
const three = ['fra', 'gru', 'iad'].map(name => region(name));

describe('the sentence at the top', () => {
  it('says that all is well only when it is', () => {
    expect(spoken(picture({ fra: '...', iad: '...' }, three))).toEqual(['ok', 'All is well: 3 voice regions healthy from 2 sources.']);
  });

  it('names the region that is down first, and since when', () => {
    const regions = [region('fra', 'down', { reason: '2 of 2 sources get no reply' }), region('gru', 'degraded'), region('iad')];
    expect(spoken(picture({ gru: 'x..', iad: 'x..' }, regions))).toEqual(['down', 'fra voice is down since 14:02:10. gru voice is degraded.']);
  });

  it('names a whole region when every service of it is down', () => {
    const down = ['cdn', 'voice'].map(service => region('fra', 'down', { service, reason: '2 of 2 sources get no reply' }));
    expect(spoken(picture({ gru: 'x..', iad: 'x..' }, [...down, region('gru')]))).toEqual(['down', 'fra is down since 14:02:10. Every other region is healthy.']);
    expect(spoken(picture({ gru: 'x..', iad: 'x..' }, [...down, region('fra', 'healthy', { service: 'gateway' })]))[1]).toMatch(/^fra cdn and voice is down since/);
  });

  it('says which layer broke when most of its cells say the same', () => {
    const down = (source: string, layers: string) => cell(source, 'fra', 'down', { reason: `no reply from any of its 2 targets; ${layers}` });
    const cells = [down('gru', 'icmp ok, connect refused'), down('iad', 'icmp ok, connect refused'), down('fra', 'icmp silent')];
    const what = fold(fold(BLANK, 'matrix', event(1, cells)), 'regions', event(2, [region('fra', 'down', { reason: '3 of 3 sources get no reply' })]));
    expect(say(known(what), 'voice', 3, 0).more).toBe('3 of 3 sources get no reply. Layers: icmp ok, connect refused. 3 voice pairs: 3 down.');
  });

  it('blames a source that alone sees nearly everything bad', () => {
    expect(spoken(picture({ fra: 'llll', iad: '....', sin: '....' }, three))).toEqual(['lossy', 'fra sees 4 of 4 voice regions lossy; nobody else does. Look at its own uplink.']);
  });

  it('names a single pair, and the row or the column that several share', () => {
    expect(spoken(picture({ fra: '.....', iad: '....s' }, three))).toEqual(['slow', '1 of 10 voice pairs is slow: iad → syd. No region is in trouble.']);
    expect(spoken(picture({ fra: 'l.l..', iad: '.....' }, three))).toEqual(['lossy', '2 of 10 voice pairs are lossy, all from fra. No region is in trouble.']);
    expect(spoken(picture({ fra: 'l....', iad: 'x....', sin: '.....' }, three))).toEqual(['down', '2 of 15 voice pairs are not well, all to fra. No region is in trouble.']);
  });

  it('does not take the unknown for healthy', () => {
    expect(spoken(picture({ fra: '..', iad: '..' }, [region('fra'), region('gru', 'unknown')]))).toEqual(['quiet', 'gru voice is unknown. Nothing is known to be wrong.']);
    expect(spoken(picture({ fra: '.~', iad: '..' }, three))).toEqual(['quiet', '1 of 4 voice pairs is stale: fra → gru. No region is in trouble.']);
  });

  it('tells an empty fleet from agents whose first window is open', () => {
    expect(say(known(picture({ fra: '  ' })), 'voice', 0, 0).more).toMatch(/^No agent has reported yet/);
    expect(say(known(picture({ fra: '  ' })), 'voice', 2, 0).more).toMatch(/^2 agents known/);
  });

  it('shows the last picture as the last when the collector is gone', () => {
    const lost = { line: { is: 'lost', detail: '', since: -9000, again: 3000 }, heard: 0 } as const;
    const { strong, more } = say(known(picture({ fra: '..', iad: '..' }, three), lost), 'voice', 3, 500);
    expect(strong).toBe('The collector does not answer.');
    expect(more).toBe('Below is the last picture, from 14:02:30: All is well: 3 voice regions healthy from 2 sources.');
    expect(sayLive(known(BLANK, lost), 'disconnected', 500)).toBe('disconnected · last heard 0.5 s ago, again in 3 s');
  });
});
