// What the reader chose. It lives in the address bar, whole: a reload and a link that is sent to someone show the same.

export const WINDOWS = ['30s', '1m', '5m', '15m'] as const;
export const THEMES = ['light', 'dark'] as const;

export type Window = (typeof WINDOWS)[number];
export type Theme = (typeof THEMES)[number];

export interface Choice {
  service: string | null;
  source: string | null;
  /** With the source: the cell that is looked at. */
  region: string | null;
  window: Window;
  /** `null` follows the system. */
  theme: Theme | null;
}

const NAME = /^[a-z0-9-]+$/;

/** Reads a query. What it cannot mean is as if it were not there. */
export function read(query: string): Choice {
  const parameters = new URLSearchParams(query);
  const name = (key: string) => {
    const text = parameters.get(key) ?? '';
    return NAME.test(text) ? text : null;
  };
  return {
    service: name('service'),
    source: name('source'),
    region: name('region'),
    window: WINDOWS.find(window => window === parameters.get('window')) ?? '30s',
    theme: THEMES.find(theme => theme === parameters.get('theme')) ?? null,
  };
}

/** The query, without what is as usual; `?` where nothing else is left, so that a link to it clears the query. */
export function write(choice: Choice): string {
  const parameters = new URLSearchParams();
  for (const key of ['service', 'source', 'region', 'theme'] as const) {
    const value = choice[key];
    if (value) parameters.set(key, value);
  }
  if (choice.window !== '30s') parameters.set('window', choice.window);
  return `?${parameters}`;
}

const FIRST = ['gateway', 'voice', 'cdn'];

/** As they are shown: those that every platform has first, then by name. */
export function inOrder(services: Iterable<string>): string[] {
  const place = (name: string) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return [...services].sort((a, b) => place(a) - place(b) || a.localeCompare(b));
}

/** The wished one if there is such; voice before others, since a caller feels it first. */
export function pickService(services: readonly string[], wished: string | null): string | null {
  return [wished, 'voice', services[0]].find(name => name != null && services.includes(name)) ?? null;
}

export function pickSource(sources: readonly string[], wished: string | null): string | null {
  return sources.find(name => name === wished) ?? sources[0] ?? null;
}
