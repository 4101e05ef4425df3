import { describe, expect, it } from 'vitest';
import { inOrder, pickService, pickSource, read, write } from './choice';

describe('the address', () => {
  it('says the same after it was written and read again', () => {
    for (const query of ['?', '?service=voice&source=fra&region=gru', '?service=cdn&theme=dark&window=5m']) {
      expect(write(read(query))).toBe(query);
    }
  });

  it('leaves out what is as usual', () => {
    expect(write(read('?service=voice&window=30s'))).toBe('?service=voice');
  });

  it('is read as if what cannot be were not there', () => {
    expect(read('?service=<b>&source=FRA&window=1y&theme=pink&more=1')).toEqual({ service: null, source: null, region: null, window: '30s', theme: null });
  });
});

describe('what is picked', () => {
  it('is what was wished, else voice, else the first', () => {
    expect(pickService(['cdn', 'gateway', 'voice'], 'cdn')).toBe('cdn');
    expect(pickService(['cdn', 'gateway', 'voice'], 'fax')).toBe('voice');
    expect(pickService(['cdn', 'gateway'], null)).toBe('cdn');
    expect(pickService([], 'voice')).toBe(null);
    expect(pickSource(['ams', 'fra'], 'fra')).toBe('fra');
    expect(pickSource(['ams', 'fra'], 'moon')).toBe('ams');
  });

  it('stands in the order of a platform, whatever services there are', () => {
    expect(inOrder(['zeta', 'cdn', 'voice', 'api', 'gateway'])).toEqual(['gateway', 'voice', 'cdn', 'api', 'zeta']);
  });
});
