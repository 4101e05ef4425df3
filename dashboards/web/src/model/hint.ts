// What a hint says beside its figures: its basis, its mode, its first place and those that it leaves out. Pure.

import type { Hint, Ranked } from './wire';
import { clock, grouped, lasted, listing, sentence } from './write';

export interface Line {
  tone: 'slow' | null;
  head: string;
  text: string;
}

// What they mean for who reads this at night; nothing is said where all is as usual.
const BASES: Record<string, string> = {
  last_known_good: 'Measurements are missing, so the last good list stands.',
  prior: 'Too few samples: this order is by distance, not measured.',
  fail_open: 'Too much looks bad at once: the list stays open, so that nobody is left without a region.',
  pinned: 'Pinned by an operator; measurement does not move it.',
  frozen: 'Frozen by an operator; measurement does not move it.',
};

export const basisWord = (basis: string): string => basis.replaceAll('_', ' ');

/** `now` is the collector's, in epoch ms. */
export function lines(hint: Hint, chosen: string | null, now: number): Line[] {
  const [first] = hint.ranked;
  const asked = hint.ranked.find(({ region, rank }) => region === chosen && rank > 1);
  const all: Line[] = [];
  const tell = (head: string, text: string | null, tone: Line['tone'] = null) => text && all.push({ tone, head, text });
  if (Date.parse(hint.stale_after) < now) {
    tell('Stale.', `Since ${clock(Date.parse(hint.stale_after), now)}; routers may use it until ${clock(Date.parse(hint.valid_until), now)}.`, 'slow');
  }
  tell('Basis.', BASES[hint.basis] ?? null, 'slow');
  if (hint.mode === 'shadow') tell('Shadow.', 'Shown here, not served to routers.');
  if (first) tell(`Why ${first.region}.`, `${capital(sentence(first.reason))} ${stood(hint, now)}`);
  if (asked) tell(`Why not ${asked.region}.`, capital(sentence(asked.reason)));
  const behind = grouped(hint.ranked.filter(isNews), ({ reason }) => reason);
  const reasons = behind.map(([reason, items]) => `${listing(items.map(({ region }) => region))}: ${sentence(reason)}`);
  if (reasons.length) tell('Behind.', reasons.join(' '), 'slow');
  const out = hint.excluded.map(({ region, reason }) => `${region}: ${sentence(reason)}`);
  if (out.length) tell('Out.', out.join(' '), 'slow');
  return all;
}

function stood({ stability: { incumbent, since } }: Hint, now: number): string {
  return incumbent ? `First for ${lasted((now - Date.parse(since)) / 1000)}.` : '';
}

/** Names of regions are not words: they stay as they are. */
const capital = (text: string) => (/^[a-z]{2,}\b [a-z]/.test(text) && /^(lowest|holds|won|nearest|more|this|no|the|by|measured)\b/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text);

/** A reason that is more than the distance in cost, which the figures show. */
const isNews = ({ rank, reason }: Ranked): boolean => rank > 1 && !/against the first$|^by distance$|^measured$/.test(reason);
