// Asks for what the stream does not tell, again and again while someone looks. An answer is a value in every case.

const TIMEOUT_MS = 4000;

export interface Asked<T> {
  /** The last good answer to this question. */
  data: T | null;
  /** Why there is no newer one. */
  error: string | null;
}

/** To be called while a component is made. A question of `null` asks nothing. */
export function asked<T>(question: () => string | null, everyMs: number): { readonly current: Asked<T> } {
  let current = $state.raw<Asked<T>>({ data: null, error: null });
  $effect(() => {
    const path = question();
    const end = new AbortController();
    current = { data: null, error: null };
    if (path != null) void repeat<T>(path, everyMs, end.signal, answer => (current = { data: answer.data ?? current.data, error: answer.error }));
    return () => end.abort();
  });
  return {
    get current() {
      return current;
    },
  };
}

async function repeat<T>(path: string, everyMs: number, end: AbortSignal, tell: (answer: Asked<T>) => void): Promise<void> {
  while (!end.aborted) {
    if (!document.hidden) {
      const answer = await ask<T>(path, end);
      if (end.aborted) return;
      tell(answer);
    }
    await new Promise(resolve => setTimeout(resolve, everyMs));
  }
}

async function ask<T>(path: string, end: AbortSignal): Promise<Asked<T>> {
  try {
    const answer = await fetch(`api/v1/${path}`, { signal: AbortSignal.any([end, AbortSignal.timeout(TIMEOUT_MS)]), cache: 'no-store' });
    const body = (await answer.json()) as T & { detail?: string };
    return answer.ok ? { data: body, error: null } : { data: null, error: body.detail ?? `error ${answer.status}` };
  } catch {
    return { data: null, error: 'no answer' };
  }
}
