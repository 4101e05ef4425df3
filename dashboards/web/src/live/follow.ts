// Follows the collector's stream: connects, reads, and connects again when the line breaks, falls silent or skips a number.
// It decides nothing about what it hears.

import { EventReader } from './events';
import type { Line } from '../model/mode';
import type { StreamEvent } from '../model/wire';

/** Something is sent each second; a line that is silent for so long is dead. */
const SILENCE_MS = 8000;
const PAUSES_MS = { first: 500, most: 8000 };

export interface Ears {
  /** `date` is what the collector's clock said when this connection began, in epoch ms. */
  heard(topic: string, event: StreamEvent, date: number | null): void;
  line(line: Line): void;
}

/** How long to wait after so many failures in a row: doubling, and not in step with everyone else who lost the line. */
export function pause(failures: number, random = Math.random()): number {
  const full = Math.min(PAUSES_MS.most, PAUSES_MS.first * 2 ** Math.max(0, failures - 1));
  return full * (0.75 + 0.25 * random);
}

/** Follows until the signal ends it. */
export async function follow(url: string, ears: Ears, end: AbortSignal): Promise<void> {
  let failures = 0;
  let since: number | null = null;
  while (!end.aborted) {
    const broken = await listen(url, end, (topic, event, date) => {
      if (since !== null || failures > 0 || event.number === 1) ears.line({ is: 'open' });
      [failures, since] = [0, null];
      ears.heard(topic, event, date);
    });
    if (end.aborted) return;
    failures += 1;
    since ??= performance.now();
    const wait = pause(failures);
    ears.line({ ...broken, since, again: performance.now() + wait });
    await sleep(wait, end);
  }
}

type Broken = { is: 'lost'; detail: string } | { is: 'refused'; status: number; detail: string };

/** One connection, until it breaks; says how it did. */
async function listen(url: string, end: AbortSignal, heard: Ears['heard']): Promise<Broken> {
  const silence = new AbortController();
  const watch = () => setTimeout(() => silence.abort(), SILENCE_MS);
  let timer = watch();
  try {
    const signal = AbortSignal.any([end, silence.signal]);
    const answer = await fetch(url, { signal, cache: 'no-store', headers: { accept: 'text/event-stream' } });
    if (!answer.ok || !answer.body) return { is: 'refused', status: answer.status, detail: await detailOf(answer) };
    const date = Date.parse(answer.headers.get('date') ?? '');
    const reader = new EventReader();
    let last = 0;
    const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece = await pieces.read(); !piece.done; piece = await pieces.read()) {
      clearTimeout(timer);
      timer = watch();
      for (const { name, data } of reader.push(piece.value)) {
        const event = JSON.parse(data) as StreamEvent;
        if (event.number !== last + 1) return { is: 'lost', detail: `event ${last + 1} is missing` };
        last = event.number;
        heard(name, event, Number.isNaN(date) ? null : date);
      }
    }
    return { is: 'lost', detail: 'the collector ended the stream' };
  } catch {
    return { is: 'lost', detail: silence.signal.aborted ? `nothing for ${SILENCE_MS / 1000} s` : 'no connection' };
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

async function detailOf(answer: Response): Promise<string> {
  const problem = (await answer.json().catch(() => null)) as { detail?: string; title?: string } | null;
  return problem?.detail ?? problem?.title ?? (answer.statusText || 'no reason given');
}

function sleep(ms: number, end: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener('online', done);
      end.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener('online', done);
    end.addEventListener('abort', done);
  });
}
