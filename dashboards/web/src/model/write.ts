// The one way in which numbers, times and names are written.

export const NOTHING = '–';

type Figure = number | null | undefined;

/** Milliseconds: a decimal below ten, whole above; never more digits than the eye can use. */
export function ms(value: Figure): string {
  if (value == null) return NOTHING;
  return value < 9.95 ? value.toFixed(1) : value.toFixed(0);
}

/** Milliseconds where neighbours are compared: a decimal below a hundred. */
export function finerMs(value: Figure): string {
  if (value == null) return NOTHING;
  return value < 99.95 ? value.toFixed(1) : value.toFixed(0);
}

/** A ratio as a percentage. A loss that is not zero never reads as zero. */
export function percent(ratio: Figure): string {
  if (ratio == null) return NOTHING;
  const value = ratio * 100;
  if (value === 0) return '0 %';
  if (value < 0.1) return '<0.1 %';
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`;
}

export function count(value: Figure): string {
  if (value == null) return NOTHING;
  return value < 10_000 ? String(value) : `${Math.floor(value / 1000)}k`;
}

export function bytes(value: number): string {
  if (value < 1000) return `${value} B`;
  return value < 1e6 ? `${(value / 1e3).toFixed(0)} kB` : `${(value / 1e6).toFixed(1)} MB`;
}

/** How long, where tenths of a second matter. */
export function duration(seconds: Figure): string {
  if (seconds == null || Number.isNaN(seconds)) return NOTHING;
  return seconds < 9.95 ? `${Math.max(0, seconds).toFixed(1)} s` : lasted(Math.round(seconds));
}

/** How long, in whole seconds: the two largest units. */
export function lasted(seconds: Figure): string {
  if (seconds == null || Number.isNaN(seconds)) return NOTHING;
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** How long, roughly: the largest unit. */
export function roughly(seconds: Figure): string {
  return lasted(seconds).split(' ').slice(0, 2).join(' ');
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** A moment in UTC: the time of today, or the day and the time. Both in epoch ms, `now` by the collector's clock. */
export function clock(when: number, now: number): string {
  if (!Number.isFinite(when)) return NOTHING;
  const date = new Date(when);
  const iso = date.toISOString();
  const today = new Date(now).toISOString().slice(0, 10);
  return iso.startsWith(today) ? iso.slice(11, 19) : `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${iso.slice(11, 16)}`;
}

/** A reason as the collector gives it, as a sentence; its times are cut to the second. */
export function sentence(reason: string): string {
  const text = reason.trim().replace(/(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z/g, '$1 $2');
  if (!text) return '';
  return text + (/[.!?]$/.test(text) ? '' : '.');
}

/** "a", "a and b", "a, b and c", "a, b and 4 more". */
export function listing(names: readonly string[], most = 3): string {
  if (names.length > most) return `${names.slice(0, most - 1).join(', ')} and ${names.length - most + 1} more`;
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

export const plural = (n: number, word: string): string => `${n} ${word}${n === 1 ? '' : 's'}`;

/** By a key, in the order in which the keys come. */
export function grouped<T>(items: readonly T[], key: (item: T) => string): [string, T[]][] {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return [...groups];
}
