// Whether what is shown may be believed. Pure: a picture, what the line does, and a moment in, a word out.

import { freshnessOf, type Picture } from './picture';

/** The line to the collector. */
export type Line =
  | { is: 'connecting' }
  | { is: 'open' }
  /** It answered with an error. */
  | { is: 'refused'; status: number; detail: string; since: number; again: number }
  /** It did not answer, or fell silent. */
  | { is: 'lost'; detail: string; since: number; again: number };

export type Mode = 'loading' | 'empty' | 'live' | 'stale' | 'disconnected' | 'refused';

/** The collector's clock as the page knows it, so that a wrong clock in the browser changes nothing. */
export interface Clock {
  /** Added to the monotonic clock it gives the collector's wall clock, in epoch ms. */
  offset: number;
}

export interface Known {
  picture: Picture;
  line: Line;
  clock: Clock | null;
  /** When the newest event came, by the monotonic clock in ms. */
  heard: number | null;
}

/** The collector's marks come each second; a picture that is older than this stands still. */
const STILL_S = 10;
/** A line that breaks for less than this is a blip and not worth a word. */
const GRACE_MS = 2500;

/** The collector's wall clock in epoch ms. `now` is monotonic, here and below. */
export const wall = ({ clock }: Known, now: number): number => (clock ? clock.offset + now : Date.now());

/** How old the picture is, in seconds. */
export function pictureAge(known: Known, now: number): number | null {
  const { asOf } = known.picture;
  return asOf == null ? null : Math.max(0, (wall(known, now) - asOf) / 1000);
}

/** How old the newest sample in it is, in seconds. */
export function sampleAge(known: Known, now: number): number | null {
  const { newest } = freshnessOf(known.picture);
  return newest == null ? null : Math.max(0, (wall(known, now) - newest) / 1000);
}

export function modeOf(known: Known, now: number): Mode {
  const { line, picture } = known;
  const seen = picture.asOf != null;
  if ((line.is === 'lost' || line.is === 'refused') && (!seen || now - line.since > GRACE_MS)) {
    return line.is === 'lost' ? 'disconnected' : 'refused';
  }
  if (!seen) return 'loading';
  const { newest, silent } = freshnessOf(picture);
  if (newest == null) return 'empty';
  return silent || (pictureAge(known, now) ?? 0) > STILL_S ? 'stale' : 'live';
}
