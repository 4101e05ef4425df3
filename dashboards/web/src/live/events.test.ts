import { expect, it } from 'vitest';
import { EventReader } from './events';
import { pause } from './follow';

it('reads the same events wherever the text is cut', () => {
  const text = 'event: regions\r\nid: 1\r\ndata: {"a":1}\r\n\r\n: a comment\n\nevent: mark\ndata: {}\n\n';
  const wanted = [{ name: 'regions', data: '{"a":1}' }, { name: 'mark', data: '{}' }];
  for (let cut = 0; cut <= text.length; cut += 1) {
    const reader = new EventReader();
    expect([...reader.push(text.slice(0, cut)), ...reader.push(text.slice(cut))], `cut at ${cut}`).toEqual(wanted);
  }
});

it('waits longer after each failure, up to a bound, and not in step with everyone else', () => {
  expect([1, 2, 3, 5, 50].map(failures => pause(failures, 1))).toEqual([500, 1000, 2000, 8000, 8000]);
  expect(pause(3, 0)).toBe(1500);
});
